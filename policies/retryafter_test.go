package policies_test

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/policies"
)

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	// The moment of RFC 9110's examples.
	now := time.Date(1994, time.November, 6, 8, 49, 0, 0, time.UTC)
	const no = time.Duration(-1)
	for value, want := range map[string]time.Duration{
		// Seconds.
		"0": 0, "1": time.Second, "120": 2 * time.Minute, "007": 7 * time.Second, " 30\t": 30 * time.Second,
		"31622400": 366 * 24 * time.Hour, "31622401": no,
		"86400": 24 * time.Hour, "1732500000": no, // the time itself
		"9223372036": no, "9223372037": no, "9223372036854775808": no, "18446744073709551616": no, "99999999999999999999999999": no,
		"": no, " ": no, "-1": no, "+1": no, "1.5": no, "1e3": no, "0x10": no, "1_000": no, "30s": no, "1 2": no, "1,2": no, "soon": no, "٣": no,
		strings.Repeat("0", 63) + "5": 5 * time.Second, strings.Repeat("0", 64) + "5": no,

		// Dates, in the three formats.
		"Sun, 06 Nov 1994 08:49:37 GMT":     37 * time.Second,
		"Sunday, 06-Nov-94 08:49:37 GMT":    37 * time.Second,
		"Sun Nov  6 08:49:37 1994":          37 * time.Second,
		" Sun, 06 Nov 1994 08:50:00 GMT ":   time.Minute,
		"Sun, 06 Nov 1994 08:49:00 GMT":     0,
		"Sun, 06 Nov 1994 08:48:59 GMT":     0, // passed
		"Thu, 01 Jan 1970 00:00:00 GMT":     0,
		"Monday, 06-Nov-95 08:49:00 GMT":    365 * 24 * time.Hour,
		"Wednesday, 06-Nov-96 08:49:00 GMT": no,                 // more than a year
		"Sunday, 06-Nov-45 08:49:37 GMT":    0,                  // 1945: 2045 is more than 50 years ahead
		"Sunday, 06-Nov-44 08:49:37 GMT":    no,                 // 2044
		"Mon, 07 Nov 1994 08:49:00 GMT":     24 * time.Hour,     //
		"Tue, 07 Nov 9999 08:49:00 GMT":     no,                 //
		"Sun, 06 Nov 1994 08:49:37 UTC":     no,                 // no HTTP date
		"Sun, 06 Nov 1994 08:49:37 +0000":   no,                 //
		"Sunday, 06-Nov-94 08:49:37 PST":    no,                 //
		"Sun, 06 Nov 1994 08:49:37":         no,                 //
		"1994-11-06T08:49:37Z":              no,                 //
		"Sun, 31 Feb 1994 08:49:37 GMT":     no,                 //
		"Sun, 06 Nov 1994 24:49:37 GMT":     no,                 //
		"Sun, 06 Nov 1994 09:49:00 GMT":     time.Hour,          //
		"Sat, 06 Nov 1994 09:49:00 GMT":     time.Hour,          // who looks at the day of the week
		"Sun Nov 13 08:49:00 1994":          7 * 24 * time.Hour, //
	} {
		got, ok := policies.ParseRetryAfter(value, now)
		if want == no {
			require.False(t, ok, "%q is %s", value, got)
			continue
		}
		require.True(t, ok, "%q", value)
		require.Equal(t, want, got, "%q", value)
	}
}

// Two digits of a year mean the nearest year, whenever they are read.
func TestParseRetryAfterYears(t *testing.T) {
	t.Parallel()
	for _, year := range []int{1969, 1999, 2000, 2026, 2068, 2069, 2099, 2100} {
		now := time.Date(year, time.December, 31, 23, 59, 0, 0, time.UTC)
		got, ok := policies.ParseRetryAfter(now.Add(2*time.Minute).Format("Monday, 02-Jan-06 15:04:05")+" GMT", now)
		require.True(t, ok, year)
		require.Equal(t, 2*time.Minute, got, year)
		got, ok = policies.ParseRetryAfter(now.Add(-24*time.Hour).Format("Monday, 02-Jan-06 15:04:05")+" GMT", now)
		require.True(t, ok, year)
		require.Zero(t, got, year)
	}
}

// A wait is counted in the server's words, whatever the zone of now is.
func TestParseRetryAfterZone(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, time.March, 29, 3, 30, 0, 0, time.FixedZone("there", 2*60*60))
	got, ok := policies.ParseRetryAfter("Sun, 29 Mar 2026 01:31:00 GMT", now)
	require.True(t, ok)
	require.Equal(t, time.Minute, got)
}

func FuzzParseRetryAfter(f *testing.F) {
	for _, seed := range []string{
		"", "0", "120", "-1", "+5", "1.5", "99999999999999999999", "Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
		"Sun Nov  6 08:49:37 1994", "Mon, 02 Jan 0000 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "\x00", "Monday, 29-Feb-00 00:00:00 GMT",
	} {
		f.Add(seed, int64(1_764_000_000), uint32(120))
	}
	f.Add("1", int64(math.MaxInt64), uint32(math.MaxUint32))
	f.Add("Sunday, 06-Nov-94 08:49:37 GMT", int64(-1<<40), uint32(0))
	f.Fuzz(func(t *testing.T, value string, unix int64, seconds uint32) {
		const year = 366 * 24 * time.Hour
		unix %= 250_000_000_000 // about 9,900 years
		now := time.Unix(unix, 0).UTC()
		wait, ok := policies.ParseRetryAfter(value, now)
		if wait < 0 || ok && wait > year || !ok && wait != 0 {
			t.Fatalf("ParseRetryAfter(%q, %s) = %s, %t", value, now, wait, ok)
		}

		// Seconds come back as they were, or are refused for being too many.
		want := time.Duration(seconds) * time.Second
		wait, ok = policies.ParseRetryAfter(strconv.FormatUint(uint64(seconds), 10), now)
		if ok != (want <= year) || ok && wait != want {
			t.Fatalf("%d seconds are %s, %t", seconds, wait, ok)
		}
		if _, ok := policies.ParseRetryAfter(fmt.Sprintf("-%d", seconds), now); ok {
			t.Fatalf("-%d seconds are accepted", seconds)
		}

		// So do dates, in each format that can say their year.
		at := now.Add(want)
		if year := at.Year(); year < 1000 || year > 9999 || want > 200*24*time.Hour {
			return
		}
		for _, layout := range []string{http.TimeFormat, "Monday, 02-Jan-06 15:04:05 GMT", time.ANSIC} {
			if got, ok := policies.ParseRetryAfter(at.Format(layout), now); !ok || got != want {
				t.Fatalf("%q at %s is %s, %t", at.Format(layout), now, got, ok)
			}
		}
	})
}
