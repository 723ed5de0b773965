package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"charm.land/huh/v2"
	"charm.land/lipgloss/v2"
	"golang.org/x/term"
)

// question is asked of a person; flag says what would have answered it.
type question struct {
	title  string
	detail string
	flag   string
}

// option is one of the answers to choose from.
type option struct{ label, value string }

// asker asks the person at the laptop. Every method returns the answer, the error of ctx, or a failure.
type asker interface {
	// choose offers options; preset is the value of the one that Enter takes, "" if there has to be a choice.
	choose(ctx context.Context, q question, preset string, options ...option) (string, error)
	// text asks for a line until check, which may be nil, returns nil.
	text(ctx context.Context, q question, preset string, check func(string) error) (string, error)
	// secret is text that is not shown.
	secret(ctx context.Context, q question, check func(string) error) (string, error)
}

// nobody is there to answer.
type nobody struct{}

func (nobody) choose(_ context.Context, q question, _ string, _ ...option) (string, error) {
	return "", needs(q.flag, q.title)
}

func (nobody) text(_ context.Context, q question, _ string, _ func(string) error) (string, error) {
	return "", needs(q.flag, q.title)
}

func (nobody) secret(_ context.Context, q question, _ func(string) error) (string, error) {
	return "", needs(q.flag, q.title)
}

// forms asks in forms that move the cursor: arrows and Enter.
type forms struct {
	keys *keys
	out  io.Writer
}

// newForms asks at the terminal in.
func newForms(in io.Reader, out io.Writer, width func() int) asker {
	file, ok := in.(*os.File)
	if !ok {
		return newLines(in, out, width)
	}
	return forms{&keys{file: file}, out}
}

// theme tells what is chosen by a mark and by bold, so that it does without colour.
func theme(dark bool) *huh.Styles {
	t := huh.ThemeBase(dark)
	strong := lipgloss.NewStyle().Bold(true)
	t.Focused.Title, t.Focused.SelectedOption = strong, strong
	t.Focused.SelectSelector = strong.SetString("=> ")
	t.Focused.UnselectedOption = lipgloss.NewStyle()
	t.Focused.ErrorMessage = lipgloss.NewStyle().Foreground(lipgloss.Color("9")).Bold(true).SetString("")
	t.Focused.ErrorIndicator = lipgloss.NewStyle().Bold(true).SetString(" !")
	t.Focused.TextInput.Prompt = strong
	plain := lipgloss.NewStyle() // huh's own is too dim to be read by daylight
	t.Help.ShortKey, t.Help.ShortDesc, t.Help.ShortSeparator = plain, plain, plain
	return t
}

func (f forms) run(ctx context.Context, field huh.Field) error {
	in, end := f.keys.reader()
	defer end()
	keys := huh.NewDefaultKeyMap()
	keys.Select.Filter.SetEnabled(false) // a choice among few
	err := huh.NewForm(huh.NewGroup(field)).WithTheme(huh.ThemeFunc(theme)).WithKeyMap(keys).WithShowHelp(true).WithInput(in).WithOutput(f.out).RunWithContext(ctx)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, huh.ErrUserAborted):
		return stopped.because(nil)
	}
	return fmt.Errorf("ask: %w", err)
}

func (f forms) choose(ctx context.Context, q question, preset string, options ...option) (string, error) {
	answer := preset
	list := make([]huh.Option[string], 0, len(options))
	for _, o := range options {
		list = append(list, huh.NewOption(o.label, o.value))
	}
	field := huh.NewSelect[string]().Title(q.title).Description(q.detail).Options(list...).Value(&answer)
	err := f.run(ctx, field)
	return answer, err
}

func (f forms) text(ctx context.Context, q question, preset string, check func(string) error) (string, error) {
	answer := preset
	field := huh.NewInput().Title(q.title).Description(q.detail).Value(&answer)
	if check != nil {
		field = field.Validate(check)
	}
	err := f.run(ctx, field)
	return strings.TrimSpace(answer), err
}

func (f forms) secret(ctx context.Context, q question, check func(string) error) (string, error) {
	answer := ""
	field := huh.NewInput().Title(q.title).Description(q.detail).EchoMode(huh.EchoModePassword).Value(&answer)
	if check != nil {
		field = field.Validate(check)
	}
	err := f.run(ctx, field)
	return answer, err
}

// lines asks in plain lines: numbers and Enter. Screen readers, slow lines and TERM=dumb have no trouble with it.
type lines struct {
	in    io.Reader
	out   *teller
	input *bufio.Reader
}

// newLines asks at out, which is width columns wide; nil if it is no screen.
func newLines(in io.Reader, out io.Writer, width func() int) *lines {
	return &lines{in: in, out: &teller{w: out, width: width}, input: bufio.NewReaderSize(in, 8<<10)}
}

// read reads a line. The goroutine of a read that ctx ended stays with it: no more is read then, the program ends.
func (l *lines) read(ctx context.Context, f func() (string, error)) (string, error) {
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		text, err := f()
		got <- answer{text, err}
	}()
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case a := <-got:
		if errors.Is(a.err, io.EOF) && a.text == "" {
			return "", stopped.because(a.err)
		}
		if a.err != nil && !errors.Is(a.err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", a.err)
		}
		return strings.TrimRight(a.text, "\r\n"), nil
	}
}

func (l *lines) line() (string, error) { return l.input.ReadString('\n') }

func (l *lines) ask(q question) {
	l.out.line("")
	l.out.hang("", "", "", q.title)
	if q.detail != "" {
		l.out.hang("", "", "", q.detail)
	}
}

func (l *lines) choose(ctx context.Context, q question, preset string, options ...option) (string, error) {
	l.ask(q)
	prompt := "Number: "
	for i, o := range options {
		l.out.hang("", fmt.Sprintf("  %d  ", i+1), "", o.label)
		if preset != "" && o.value == preset {
			prompt = fmt.Sprintf("Number [%d]: ", i+1)
		}
	}
	for {
		fmt.Fprint(l.out.w, prompt)
		answer, err := l.read(ctx, l.line)
		if err != nil {
			return "", err
		}
		answer = strings.TrimSpace(answer)
		if answer == "" && preset != "" {
			return preset, nil
		}
		if n, err := strconv.Atoi(answer); err == nil && n >= 1 && n <= len(options) {
			return options[n-1].value, nil
		}
		l.out.line(fmt.Sprintf("Type a number from 1 to %d.", len(options)))
	}
}

func (l *lines) text(ctx context.Context, q question, preset string, check func(string) error) (string, error) {
	l.ask(q)
	prompt := "> "
	if preset != "" {
		prompt = "[" + preset + "] > "
	}
	for {
		fmt.Fprint(l.out.w, prompt)
		answer, err := l.read(ctx, l.line)
		if err != nil {
			return "", err
		}
		if answer = strings.TrimSpace(answer); answer == "" {
			answer = preset
		}
		if check == nil {
			return answer, nil
		}
		if err := check(answer); err == nil {
			return answer, nil
		} else {
			l.out.hang("", "", "", err.Error())
		}
	}
}

func (l *lines) secret(ctx context.Context, q question, check func(string) error) (string, error) {
	l.ask(q)
	read := l.line
	if f, ok := l.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		state, err := term.GetState(int(f.Fd()))
		if err != nil {
			return "", fmt.Errorf("hide what is typed: %w", err)
		}
		defer term.Restore(int(f.Fd()), state) // if ctx ends while it is hidden
		read = func() (string, error) {
			b, err := term.ReadPassword(int(f.Fd()))
			fmt.Fprintln(l.out.w)
			return string(b), err
		}
	}
	for {
		fmt.Fprint(l.out.w, "(not shown) > ")
		answer, err := l.read(ctx, read)
		if err != nil {
			return "", err
		}
		if check == nil {
			return answer, nil
		}
		if err := check(answer); err == nil {
			return answer, nil
		} else {
			l.out.hang("", "", "", err.Error())
		}
	}
}
