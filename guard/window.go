package guard

import (
	"slices"
	"time"
)

// Counts are how often things happened at a dependency.
type Counts struct {
	// Calls is how many calls ended with something to say about the service, Failures and Slowed how many of them it failed or
	// answered with a request for fewer calls.
	Calls    int `json:"calls,omitzero"`
	Failures int `json:"failures,omitzero"`
	Slowed   int `json:"slowed,omitzero"`
	// Refused is how many calls a throttle refused, Held how many an open breaker did.
	Refused int `json:"refused,omitzero"`
	Held    int `json:"held,omitzero"`
	// Firsts is how many calls were first tries, Retries how many repetitions were allowed.
	Firsts  int `json:"firsts,omitzero"`
	Retries int `json:"retries,omitzero"`
}

func (c *Counts) add(d Counts) {
	c.Calls += d.Calls
	c.Failures += d.Failures
	c.Slowed += d.Slowed
	c.Refused += d.Refused
	c.Held += d.Held
	c.Firsts += d.Firsts
	c.Retries += d.Retries
}

// valid says that they can be the counts of one report.
func (c Counts) valid() bool {
	const most = 1 << 30
	for _, n := range []int{c.Calls, c.Failures, c.Slowed, c.Refused, c.Held, c.Firsts, c.Retries} {
		if n < 0 || n > most {
			return false
		}
	}
	return c.Failures+c.Slowed <= c.Calls
}

// buckets is into how many parts a window is divided.
const buckets = 20

// Window counts over the last while. What is older than Length may count for another twentieth of it.
type Window struct {
	Length  time.Duration `json:"length"`
	Buckets []Bucket      `json:"buckets,omitempty"` // the oldest first; those without counts are left out
}

// Bucket is a part of a window. At numbers the parts since the year 1970.
type Bucket struct {
	At int64 `json:"at"`
	Counts
}

// width is rounded up, so that twenty of them are no less than the window.
func (w *Window) width() int64 { return max(1, (int64(w.Length)+buckets-1)/buckets) }

func (w *Window) number(t time.Time) int64 { return t.UnixNano() / w.width() }

// add counts something as of a time before or after now.
func (w *Window) add(now, at time.Time, c Counts) {
	if c == (Counts{}) || w.Length <= 0 {
		return
	}
	first, n := w.number(now)-buckets, w.number(at)
	w.Buckets = slices.DeleteFunc(w.Buckets, func(b Bucket) bool { return b.At < first })
	i := len(w.Buckets)
	for i > 0 && w.Buckets[i-1].At > n {
		i--
	}
	if i > 0 && w.Buckets[i-1].At == n {
		w.Buckets[i-1].add(c)
		return
	}
	w.Buckets = slices.Insert(w.Buckets, i, Bucket{At: n, Counts: c})
}

// take takes back retries that were counted as of a time. Those that are forgotten already stay so.
func (w *Window) take(at time.Time, retries int) {
	n := w.number(at)
	for i := range w.Buckets {
		if b := &w.Buckets[i]; b.At == n {
			b.Retries -= min(retries, b.Retries)
		}
	}
}

// sum is the counts within the window, and of up to a twentieth of it before.
func (w *Window) sum(now time.Time) Counts { return w.since(w.number(now) - buckets) }

// inner is the counts within the window, without up to the oldest twentieth of it.
func (w *Window) inner(now time.Time) Counts { return w.since(w.number(now) - buckets + 1) }

func (w *Window) since(first int64) Counts {
	var c Counts
	for _, b := range w.Buckets {
		if b.At >= first {
			c.add(b.Counts)
		}
	}
	return c
}

// resize changes the length and keeps the counts.
func (w *Window) resize(length time.Duration) {
	if w.Length == length {
		return
	}
	old := *w
	*w = Window{Length: length}
	for _, b := range old.Buckets {
		at := time.Unix(0, (b.At+1)*old.width()-1)
		w.add(at, at, b.Counts)
	}
}
