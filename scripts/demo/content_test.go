package main

import (
	"fmt"
	"math"
	"time"

	"vindu/scripts/lab"
)

// movement counts, over the time given, the pictures of the far end that differ from the one before, and returns how many came a
// second. A frozen picture that is sent again and again counts for nothing.
func (p *person) movement(d time.Duration) (float64, error) {
	return lab.Evaluate[float64](p.Browser, d+10*time.Second, fmt.Sprintf(`(async () => {
		const video = document.querySelector("#far"), canvas = document.createElement("canvas");
		canvas.width = 160; canvas.height = 120;
		const pixels = canvas.getContext("2d", {willReadFrequently: true});
		let before = null, moves = 0, on = true;
		const look = () => {
			if (!on) return;
			pixels.drawImage(video, 0, 0, 160, 120);
			const now = pixels.getImageData(0, 0, 160, 120).data;
			let changed = 0;
			if (before) for (let i = 0; i < now.length; i += 4) if (Math.abs(now[i] - before[i]) + Math.abs(now[i + 1] - before[i + 1]) > 100) changed++;
			if (changed > 4) moves++;
			before = now;
			video.requestVideoFrameCallback(look);
		};
		video.requestVideoFrameCallback(look);
		await new Promise(done => setTimeout(done, %d));
		on = false;
		return moves / %f;
	})()`, d.Milliseconds(), d.Seconds()))
}

// rms returns the effective value of sound.
func rms(samples []int16) float64 {
	if len(samples) == 0 {
		return 0
	}
	sum := 0.0
	for _, s := range samples {
		sum += float64(s) * float64(s)
	}
	return math.Sqrt(sum / float64(len(samples)))
}
