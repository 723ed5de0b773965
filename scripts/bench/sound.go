package main

import (
	"fmt"
	"math"
	"time"

	"vindu/media/echo"
	"vindu/media/echo/echotest"
	"vindu/media/jitter"
	"vindu/media/jitter/jittertest"
	"vindu/media/sound"
)

// soundRows measures what is done to sound, with generated speech in generated rooms and on generated lines. Only the time that cancelling
// takes depends on the machine.
func soundRows() []row {
	rows := []row{
		erle("plain", echotest.Room{}, 40), erle("distorted loudspeaker", echotest.Room{Distorts: 1}, 35),
		erle("150 ms late", echotest.Room{Late: sound.Rate * 150 / 1000}, 30), doubleTalk(), cancelling(),
	}
	for _, l := range []struct {
		loss float64
		goal time.Duration
	}{{0.1, 60 * time.Millisecond}, {0.2, 120 * time.Millisecond}, {0.3, 300 * time.Millisecond}} {
		rows = append(rows, gaps(l.loss, l.goal)...)
	}
	return rows
}

// failed is the row of what could not be measured.
func (r row) failed(err error) row {
	r.Why = err.Error()
	return r
}

func erle(name string, room echotest.Room, goal float64) row {
	r := row{Name: "echo after 5 s, " + name, Unit: "dB less", Goal: fmt.Sprintf("≥ %.0f", goal)}
	c, err := echo.New(echo.Config{})
	if err != nil {
		return r.failed(err)
	}
	defer c.Close()
	if r.Value, err = echotest.ERLE(c, &room, 30); err != nil {
		return r.failed(err)
	}
	r.Holds = r.Value >= goal
	return r
}

// doubleTalk keeps the level as it is, which would hide what is lost.
func doubleTalk() row {
	r := row{Name: "near speech while both speak", Unit: "dB less", Goal: "≤ 3"}
	c, err := echo.New(echo.Config{KeepLevel: true})
	if err != nil {
		return r.failed(err)
	}
	defer c.Close()
	if r.Value, err = echotest.DoubleTalk(c, &echotest.Room{}, 30); err != nil {
		return r.failed(err)
	}
	r.Holds = r.Value <= 3
	return r
}

// cancelling is the median of what a frame takes, as a part of the time that it lasts.
func cancelling() row {
	r := row{Name: "cancelling echo, noise and level", Unit: "CPU-s/s"}
	c, err := echo.New(echo.Config{})
	if err != nil {
		return r.failed(err)
	}
	defer c.Close()
	var far, near [sound.FrameSamples]int16
	voice, room := sound.NewVoice(), echotest.Room{}
	var took []float64
	for range 3000 {
		voice.Fill(far[:])
		clear(near[:])
		room.Hear(near[:], far[:])
		began := time.Now()
		if err := c.Process(near[:], far[:]); err != nil {
			return r.failed(err)
		}
		took = append(took, time.Since(began).Seconds())
	}
	r.Value = median(took) * sound.Rate / sound.FrameSamples
	return r
}

// gaps plays ten minutes of speech through a line.
func gaps(loss float64, goal time.Duration) []row {
	line := jittertest.Line{Loss: loss, Delay: 100 * time.Millisecond, Spread: 30 * time.Millisecond, Seed: 11}
	name := fmt.Sprintf("%.0f %% lost, 100±30 ms, reordered", loss*100)
	r := row{Name: "speech gaps, 99 of 100, " + name, Unit: "ms", Goal: fmt.Sprintf("≤ %d", goal.Milliseconds())}
	coded, err := jittertest.Code(sound.NewVoice().Fill, 1500, loss, false)
	if err != nil {
		return []row{r.failed(err)}
	}
	b, err := jitter.New()
	if err != nil {
		return []row{r.failed(err)}
	}
	defer b.Close()
	heard := line.Play(b, coded, 10*time.Minute, nil)
	r.Value = float64(heard.Gap(0.99).Milliseconds())
	r.Holds = r.Value <= float64(goal.Milliseconds())
	made := float64(heard.Stats.Concealed) / math.Max(float64(heard.Stats.Played), 1)
	return []row{
		r,
		{Name: "sound made up, " + name, Value: 100 * made, Unit: "%"},
		{Name: "delay of the jitter buffer, mean, " + name, Value: float64(heard.Mean.Milliseconds()), Unit: "ms"},
	}
}
