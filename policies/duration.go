package policies

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// duration is a time.Duration that JSON shows as people write it: "2m0s".
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(b []byte) error {
	parsed, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration (write it like \"1m30s\")", b)
	}
	*d = duration(parsed)
	return nil
}

// longest is the largest duration there is, about 292 years. Sums and powers stop there.
const longest = time.Duration(math.MaxInt64)

// toDuration turns nanoseconds into a duration and never overflows.
func toDuration(ns float64) time.Duration {
	switch {
	case !(ns > 0): // NaN too
		return 0
	case ns >= float64(longest):
		return longest
	}
	return time.Duration(ns)
}

// plus adds two durations that are not negative and never overflows.
func plus(a, b time.Duration) time.Duration {
	if a > longest-b {
		return longest
	}
	return a + b
}

// short writes a duration for people: three digits or so, and no empty minutes or seconds.
func short(d time.Duration) string {
	switch {
	case d >= time.Minute:
		d = d.Round(time.Second)
	case d >= time.Second:
		d = d.Round(100 * time.Millisecond)
	case d >= time.Millisecond:
		d = d.Round(time.Millisecond)
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
