package runs

import (
	"crypto/rand"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// idAlphabet is in ascending byte order, so that ids sort as the times they hold.
const idAlphabet = "0123456789abcdefghjkmnpqrstvwxyz"

const idTime = "20060102-150405"

var generated = regexp.MustCompile(`^\d{8}-\d{6}-[` + idAlphabet + `]{7}$`)

// NewID makes a run id from a time: the date and time in UTC to the second, the millisecond, and five
// random characters. Ids of different milliseconds sort as their times.
func NewID(t time.Time) string {
	t = t.UTC()
	ms := t.Nanosecond() / int(time.Millisecond)
	id := []byte(t.Format(idTime + "-"))
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

// uuid7 is the form of Temporal's run ids, which name the runs that another workflow started. It begins
// with the time in milliseconds.
var uuid7 = regexp.MustCompile(`^([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// timeOf reads the time that an id was made at, to the millisecond. Ids that people chose have none.
func timeOf(id string) (time.Time, bool) {
	if GeneratedID(id) {
		t, err := time.Parse(idTime, id[:len(idTime)])
		ms := strings.IndexByte(idAlphabet, id[len(idTime)+1])<<5 | strings.IndexByte(idAlphabet, id[len(idTime)+2])
		return t.Add(time.Duration(ms) * time.Millisecond), err == nil
	}
	if parts := uuid7.FindStringSubmatch(id); parts != nil {
		ms, err := strconv.ParseInt(parts[1]+parts[2], 16, 64)
		return time.UnixMilli(ms).UTC(), err == nil
	}
	return time.Time{}, false
}
