package runs

import (
	"crypto/rand"
	"regexp"
	"time"
)

// idAlphabet is in ascending byte order, so that ids sort as the times they hold.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

var generated = regexp.MustCompile(`^\d{8}-\d{6}-[0-9a-z]{7}$`)

// NewID makes a run id from a time: the date and time in UTC to the second, the millisecond, and five
// random characters. Ids of different milliseconds sort as their times.
func NewID(t time.Time) string {
	t = t.UTC()
	ms := t.Nanosecond() / int(time.Millisecond)
	id := []byte(t.Format("20060102-150405-"))
	id = append(id, idAlphabet[ms>>5], idAlphabet[ms&31])
	random := make([]byte, 5)
	rand.Read(random) // never fails
	for _, b := range random {
		id = append(id, idAlphabet[b&31])
	}
	return string(id)
}

// GeneratedID reports whether id looks like one of [NewID].
func GeneratedID(id string) bool { return generated.MatchString(id) }
