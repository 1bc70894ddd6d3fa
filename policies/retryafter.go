package policies

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxRetryAfter is the longest wait that can be meant. More is a mistake, such as the time itself in seconds.
const maxRetryAfter = 366 * 24 * time.Hour

// rfc850 is the second of HTTP's formats, which has always been GMT; time.RFC850 takes any zone.
const rfc850 = "Monday, 02-Jan-06 15:04:05 GMT"

// ParseRetryAfter reads the value of a Retry-After header: a number of seconds, or a date in one of the three formats that RFC 9110
// section 5.6.7 has recipients accept. The wait is counted from now; for a date that has passed it is zero. It
// is not ok for anything else, and for waits of more than a year.
func ParseRetryAfter(value string, now time.Time) (wait time.Duration, ok bool) {
	value = strings.Trim(value, " \t")
	if value == "" || len(value) > 64 {
		return 0, false
	}
	if value[0] >= '0' && value[0] <= '9' {
		seconds, err := strconv.ParseUint(value, 10, 63)
		if err != nil || seconds > uint64(maxRetryAfter/time.Second) {
			return 0, false
		}
		return time.Duration(seconds) * time.Second, true
	}
	at, ok := parseHTTPDate(value, now)
	if !ok {
		return 0, false
	}
	if wait = max(at.Sub(now), 0); wait > maxRetryAfter {
		return 0, false
	}
	return wait, true
}

func parseHTTPDate(value string, now time.Time) (time.Time, bool) {
	for _, layout := range []string{http.TimeFormat, time.ANSIC} {
		if t, err := time.Parse(layout, value); err == nil {
			return t, true
		}
	}
	t, err := time.Parse(rfc850, value)
	if err != nil {
		return time.Time{}, false
	}
	// Of the years that end in these two digits the one that is nearest, and not more than 50 years ahead.
	for t.Year() > now.Year()+50 {
		t = t.AddDate(-100, 0, 0)
	}
	for t.Year() <= now.Year()-50 {
		t = t.AddDate(100, 0, 0)
	}
	return t, true
}
