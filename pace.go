package stepwell

import (
	"fmt"
	"time"
)

// pace is how fast a number grows, as far as this program saw: when it began to look, and at what number. The zero value has
// seen nothing.
type pace struct {
	since   time.Time
	from    int64
	attempt int
}

// see looks at the number of an attempt, which begins anew.
func (p *pace) see(done int64, attempt int, now time.Time) {
	if p.since.IsZero() || attempt != p.attempt || done < p.from {
		*p = pace{now, done, attempt}
	}
}

// rate is how much is done in a second, 0 when it is too early to say.
func (p pace) rate(done int64, now time.Time) float64 {
	n, took := done-p.from, now.Sub(p.since)
	if p.since.IsZero() || n <= 0 || took < 3*time.Second {
		return 0
	}
	return float64(n) / took.Seconds()
}

// left guesses how long the rest takes, 0 when it is too early to say.
func (p pace) left(done, total int64, now time.Time) time.Duration {
	n, took := done-p.from, now.Sub(p.since)
	if p.since.IsZero() || n <= 0 || done >= total || took < 5*time.Second || n*50 < total {
		return 0
	}
	return time.Duration(float64(took) / float64(n) * float64(total-done))
}

// rateText is "1,200/s", "2.5/s", or of what is slow "7/min" or "3/h".
func rateText(perSecond float64) string {
	switch {
	case perSecond >= 10:
		return grouped(int(perSecond+0.5)) + "/s"
	case perSecond >= 1:
		return fmt.Sprintf("%.1f/s", perSecond)
	case perSecond*60 >= 1:
		return fmt.Sprintf("%.0f/min", perSecond*60)
	}
	return fmt.Sprintf("%.0f/h", perSecond*3600)
}
