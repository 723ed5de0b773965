// Package stack runs a clinic and a terminal on this machine, through the programs and the enrolment that real ones use.
//
// It is behind the demo, its test and the benchmarks. Everything listens on loopback. State lives in one folder: a second start
// with the same folder finds it again. Programs that die are started again, as a supervisor would.
package stack

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"vindu/media/speech/speechtest"
	"vindu/protocol"
)

// Names of the demo's people and places. No patient has a name anywhere (R39).
const (
	Organisation = "Fjordbyen kommune"
	Home         = "Home 17, Storgata"
	Person       = "Anne Berg"
	Technician   = "Bo Dahl"
	Operator     = "Liv Haug"
)

// role is what the clinician is, in the language of the one who is called: it stands on the terminal's screen.
var role = map[string]string{"en": "nurse", "nb": "sykepleier", "nn": "sjukepleiar"}

// technicianRole is what the technician is, who stands there too.
var technicianRole = map[string]string{"en": "technician", "nb": "tekniker", "nn": "teknikar"}

// Options say what to run.
type Options struct {
	Dir  string // state; made if missing
	Bin  string // folder of vindu-clinic and vindu-agent
	Ring time.Duration
	// Notice is for how long the home is told what this is, before its first call.
	Notice time.Duration
	// Language of the terminal: nb, nn or en.
	Language string
	// Preview shows the terminal's screen on a page; the programs have to be built for it.
	Preview bool
	// StreamRelay leaves the clinic without TURN over UDP: what is relayed goes over TLS on the front door's port.
	StreamRelay bool
	// Says gets a line when something happens that a person should know. It may be called from several goroutines.
	Says io.Writer
	// Agent changes the terminal's configuration, key by key: section.key = value, as TOML writes it.
	Agent map[string]string
	// Flags of the terminal's program, besides its configuration.
	Flags []string
	// Measured has the clinic tell its figures to Metrics.
	Measured bool
}

// Stack is a clinic and a terminal that run.
type Stack struct {
	Options
	Clinician string // one-time address of the clinician's page
	Terminal  string // address of the terminal's screen

	clinic, agent *process
	ports         ports
	token         string // that the clinic's metrics are told for
	voice         string // the socket of who speaks; "" without
	release       func() // of the folder; nil while it is not claimed
}

// listenVoice has the terminal speak, where espeak-ng is installed; nil where it is not, and where the folder's name is too long for a socket.
func (s *Stack) listenVoice() (net.Listener, error) {
	socket, err := filepath.Abs(filepath.Join(s.agentDir(), "voice"))
	if err != nil {
		return nil, err
	}
	if _, err := exec.LookPath(speechtest.Command[0]); err != nil || !s.Preview || len(socket) > 100 {
		return nil, nil //nolint:nilnil // no voice, and nothing wrong
	}
	if err := os.MkdirAll(s.agentDir(), 0o700); err != nil {
		return nil, err
	}
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("the terminal's voice: %w", err)
	}
	s.voice = socket
	return l, nil
}

// ClinicPID and AgentPID return the process ids, 0 while a program is not running.
func (s *Stack) ClinicPID() int { return s.clinic.pid() }
func (s *Stack) AgentPID() int  { return s.agent.pid() }

// AgentReadyAfter returns how long the running terminal took from its start to being ready, seen from outside; 0 until it is.
func (s *Stack) AgentReadyAfter() time.Duration { return s.agent.readyAfter() }

// Build compiles the programs into bin: with preview, or the terminal's as it ships. root is the project's folder.
func Build(ctx context.Context, root, bin string, preview bool) error {
	agent := []string{"go", "build", "-ldflags", "-s -w", "-o", bin + "/", "./cmd/vindu-agent"}
	if preview {
		agent = []string{"go", "build", "-tags", "preview", "-o", bin + "/", "./cmd/vindu-agent"}
	}
	if err := BuildClinic(ctx, root, bin); err != nil {
		return err
	}
	return build(ctx, root, agent)
}

// BuildClinic is Build for a clinic alone.
func BuildClinic(ctx context.Context, root, bin string) error {
	return build(ctx, root, []string{"go", "build", "-o", bin + "/", "./cmd/vindu-clinic"})
}

func build(ctx context.Context, root string, c []string) error {
	cmd := exec.CommandContext(ctx, c[0], c[1:]...)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", strings.Join(c, " "), err, out)
	}
	return nil
}

// New returns a stack that is not running yet.
func New(o Options) (*Stack, error) {
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	bin, err := filepath.Abs(o.Bin)
	if err != nil {
		return nil, err
	}
	o.Dir, o.Bin = dir, bin
	if o.Says == nil {
		o.Says = io.Discard
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the demo's folder: %w", err)
	}
	return &Stack{Options: o}, nil
}

// Claim takes the folder for this stack, or says that another one runs in it. Run does it by itself; whoever has long work to do before
// Run claims first. Release gives the folder back where Run was not reached.
func (s *Stack) Claim() error {
	if s.release != nil {
		return nil
	}
	unlock, err := lock(filepath.Join(s.Dir, "lock"))
	if err != nil {
		return err
	}
	s.release = unlock
	return nil
}

// Release undoes Claim.
func (s *Stack) Release() {
	if s.release != nil {
		s.release()
		s.release = nil
	}
}

// Run starts everything, calls ready once when both are, and runs until ctx ends or something fails for good. It stops
// the terminal before the clinic.
func (s *Stack) Run(ctx context.Context, ready func(ctx context.Context) error) error {
	err := s.Claim()
	if err != nil {
		return err
	}
	defer s.Release()
	if s.ports, err = choosePorts(filepath.Join(s.Dir, "ports.json")); err != nil {
		return err
	}
	if err := s.prepareClinic(ctx); err != nil {
		return err
	}
	voice, err := s.listenVoice()
	if err != nil {
		return err
	}
	if err := s.writeAgentConfig(); err != nil {
		return err
	}
	s.clinic = s.clinicProcess()
	s.agent = newProcess("the terminal", filepath.Join(s.Dir, "log", "terminal.log"), s.Says, append([]string{s.bin("vindu-agent"), "run", "-config", s.agentConfig()}, s.Flags...)...)

	group, ctx := errgroup.WithContext(ctx)
	// The clinic outlives the terminal, so that the terminal can say goodbye.
	clinicCtx, stopClinic := context.WithCancel(context.WithoutCancel(ctx))
	agentCtx, stopAgent := context.WithCancel(ctx)
	defer stopAgent()
	agentDone := make(chan struct{})
	if voice != nil {
		group.Go(func() error { return speechtest.Serve(ctx, voice) })
	}
	group.Go(func() error {
		err := s.clinic.run(clinicCtx)
		if err != nil {
			stopAgent()
		}
		return err
	})
	group.Go(func() error {
		defer stopClinic()
		defer close(agentDone)
		startCtx, cancel := context.WithTimeoutCause(agentCtx, time.Minute, errors.New("it took more than a minute"))
		defer cancel()
		if _, err := s.clinic.waitReady(startCtx); err != nil {
			return err
		}
		if err := s.enrol(startCtx); err != nil {
			return err
		}
		return s.agent.run(agentCtx)
	})
	group.Go(func() error {
		startCtx, cancel := context.WithTimeoutCause(ctx, 2*time.Minute, errors.New("it took more than two minutes"))
		defer cancel()
		select {
		case f := <-s.agent.ready:
			if a, ok := f["preview"].(string); ok {
				s.Terminal = a
			}
		case <-agentDone:
			return nil // its own error says why
		case <-startCtx.Done():
			return fmt.Errorf("%s: not ready: %w (its log: %s)", s.agent.name, context.Cause(startCtx), s.agent.log)
		}
		invitation, err := s.Invitation(startCtx)
		if err != nil {
			return err
		}
		s.Clinician = invitation
		return ready(ctx)
	})
	return group.Wait()
}

// RunClinic is Run for a clinic alone: its terminals are somebody else's.
func (s *Stack) RunClinic(ctx context.Context, ready func(ctx context.Context) error) error {
	err := s.Claim()
	if err != nil {
		return err
	}
	defer s.Release()
	if s.ports, err = choosePorts(filepath.Join(s.Dir, "ports.json")); err != nil {
		return err
	}
	if err := s.prepareClinic(ctx); err != nil {
		return err
	}
	s.clinic = s.clinicProcess()
	group, ctx := errgroup.WithContext(ctx)
	clinicCtx, stopClinic := context.WithCancel(context.WithoutCancel(ctx))
	defer context.AfterFunc(ctx, stopClinic)()
	group.Go(func() error { return s.clinic.run(clinicCtx) })
	group.Go(func() error {
		defer stopClinic()
		startCtx, cancel := context.WithTimeoutCause(ctx, time.Minute, errors.New("it took more than a minute"))
		defer cancel()
		if _, err := s.clinic.waitReady(startCtx); err != nil {
			return err
		}
		return ready(ctx)
	})
	return group.Wait()
}

func (s *Stack) clinicProcess() *process {
	return newProcess("the clinic", filepath.Join(s.Dir, "log", "clinic.log"), s.Says, s.bin("vindu-clinic"), "serve", "-config", s.clinicConfig())
}

// Front is the address of the clinic's front door, Database the path of what it keeps.
func (s *Stack) Front() string    { return loopback(s.ports.Front) }
func (s *Stack) Database() string { return filepath.Join(s.clinicDir(), databaseFile) }

// Metrics asks the clinic for its figures: those without labels by their names, the others with their labels as they are written.
func (s *Stack) Metrics(ctx context.Context) (map[string]float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+loopback(s.ports.Metrics)+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("metrics: status %d", response.StatusCode)
	}
	told := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, found := strings.Cut(strings.TrimSpace(line), " ")
		if v, err := strconv.ParseFloat(value, 64); found && err == nil {
			told[name] = v
		}
	}
	return told, nil
}

// Voucher has the clinic make one for a home, which is made if there is none by that name.
func (s *Stack) Voucher(ctx context.Context, home string) (*protocol.Voucher, error) {
	text, err := s.output(ctx, nil, "vindu-clinic", "voucher", "-dir", s.clinicDir(), "-home", home)
	if err != nil {
		return nil, err
	}
	return protocol.ParseVoucher(string(text))
}

// OperatorLink is an address at which an operator signs in, once.
func (s *Stack) OperatorLink(ctx context.Context) (string, error) {
	return s.link(ctx, Operator, "operator", "operator")
}

func (s *Stack) bin(name string) string { return filepath.Join(s.Bin, name) }

func (s *Stack) clinicDir() string    { return filepath.Join(s.Dir, "clinic") }
func (s *Stack) clinicConfig() string { return filepath.Join(s.clinicDir(), "clinic.toml") }
func (s *Stack) agentDir() string     { return filepath.Join(s.Dir, "terminal") }
func (s *Stack) agentConfig() string  { return filepath.Join(s.agentDir(), "agent.toml") }

// Invitation has the clinic let Person call Home, and make a one-time address at which Person makes a passkey and is signed in. The passkeys that Person had
// are removed if that is asked for by one of more.
func (s *Stack) Invitation(ctx context.Context, more ...string) (string, error) {
	named := []string{"-dir", s.clinicDir(), "-person", Person, "-role", cmp.Or(role[s.Language], role["en"])}
	out, err := s.output(ctx, nil, "vindu-clinic", slices.Concat([]string{"person"}, named, []string{"-duty", "clinician", "-invite"}, more)...)
	if err != nil {
		return "", err
	}
	if _, err := s.output(ctx, nil, "vindu-clinic", slices.Concat([]string{"grant", "give"}, named, []string{"-homes", Home, "-reason", "to try it out"})...); err != nil {
		return "", err
	}
	return strings.TrimSpace(string(out)), nil
}

// TechnicianLink is an address at which a technician signs in, once.
func (s *Stack) TechnicianLink(ctx context.Context) (string, error) {
	return s.link(ctx, Technician, cmp.Or(technicianRole[s.Language], technicianRole["en"]), "technician")
}

func (s *Stack) link(ctx context.Context, person, role, duty string) (string, error) {
	out, err := s.output(ctx, nil, "vindu-clinic", "sign-in-link", "-dir", s.clinicDir(), "-person", person, "-role", role, "-duty", duty, "-life", "8h")
	return strings.TrimSpace(string(out)), err
}

// Mandate has the clinic authorise a technician's laptop, for a day, and returns the authorisation as text.
func (s *Stack) Mandate(ctx context.Context, person, laptop string) (string, error) {
	out, err := s.output(ctx, nil, "vindu-clinic", "mandate", "-dir", s.clinicDir(), "-person", person, "-laptop", laptop)
	return strings.TrimSpace(string(out)), err
}

// output runs one of our programs to its end.
func (s *Stack) output(ctx context.Context, in io.Reader, name string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, s.bin(name), args...)
	cmd.Stdin = in
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w\n%s", name, args[0], err, errs.String())
	}
	return out, nil
}

// ports are where the stack listens; they are kept so that a second start finds the same addresses.
type ports struct {
	Front   int `json:"front"`   // terminals: MQTT, enrolment, relay over TLS
	Pages   int `json:"pages"`   // the clinician's browser
	Relay   int `json:"relay"`   // TURN, UDP
	Preview int `json:"preview"` // the terminal's screen
	Metrics int `json:"metrics"` // the clinic's figures
}

func free(port int) bool {
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", host, port))
		if err != nil {
			if host == "[::1]" && !strings.Contains(err.Error(), "in use") {
				continue // no IPv6 here
			}
			return false
		}
		l.Close()
	}
	u, err := net.ListenPacket("udp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	u.Close()
	return true
}
