package isolate

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
)

const (
	// maxLine is where a line is cut into two, in bytes.
	maxLine = 8 << 10
	// lineCost is what a line costs besides its bytes: it is kept with a time and a source.
	lineCost = 96
)

// Output keeps the first and the last part of what a process prints, and hands it out line by line. Its methods are safe for
// concurrent use.
type Output struct {
	half int

	mu      sync.Mutex
	each    func(line string)
	early   []string // lines from before there was each
	partial []byte   // of the first part: a line that has not ended
	spent   int      // of the first half
	full    bool
	emitted int64 // bytes of the first part
	total   int64
	ring    []byte // the last bytes, in a circle once it is long enough
	next    int
}

func newOutput(keep int) *Output { return &Output{half: max(keep/2, 1)} }

// Each calls a function with every line that is kept, one after the other. Lines of the first half of what is kept come as they are
// printed, those of the last at the end, behind a line that says how much was left out. It is called once.
func (o *Output) Each(f func(line string)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range o.early {
		f(line)
	}
	o.early, o.each = nil, f
}

func (o *Output) emit(line string) {
	if o.each == nil {
		o.early = append(o.early, line)
		return
	}
	o.each(line)
}

// read takes in what a pipe brings, to its end.
func (o *Output) read(r io.Reader) {
	buf := make([]byte, 64<<10)
	for {
		n, err := r.Read(buf)
		o.write(buf[:n])
		if err != nil {
			o.finish()
			return
		}
	}
}

func (o *Output) write(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.total += int64(len(p))
	o.keep(p)
	for !o.full && len(p) > 0 {
		i, room := bytes.IndexByte(p, '\n'), maxLine-len(o.partial)
		switch {
		case i >= 0 && i <= room:
			o.partial = append(o.partial, p[:i]...)
			o.emitted += int64(i) + 1
			p = p[i+1:]
		case i < 0 && len(p) < room:
			o.partial = append(o.partial, p...)
			o.emitted += int64(len(p))
			return
		default: // too long
			o.partial = append(o.partial, p[:room]...)
			o.emitted += int64(room)
			p = p[room:]
		}
		o.flush()
	}
}

// flush emits the line that was begun.
func (o *Output) flush() {
	o.spent += len(o.partial) + lineCost
	o.full = o.spent >= o.half
	o.emit(shownLine(o.partial))
	o.partial = o.partial[:0]
}

// shownLine is what a terminal would show of a line: a progress bar writes over itself.
func shownLine(line []byte) string {
	s := strings.TrimRight(string(line), "\r")
	if i := strings.LastIndexByte(s, '\r'); i >= 0 {
		s = s[i+1:]
	}
	return s
}

// keep remembers the last bytes.
func (o *Output) keep(p []byte) {
	if len(p) > o.half {
		p = p[len(p)-o.half:]
	}
	if room := o.half - len(o.ring); room > 0 {
		n := min(room, len(p))
		o.ring = append(o.ring, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		n := copy(o.ring[o.next:], p)
		o.next = (o.next + n) % o.half
		p = p[n:]
	}
}

// last returns the last bytes in order.
func (o *Output) last() []byte {
	return append(append(make([]byte, 0, len(o.ring)), o.ring[o.next:]...), o.ring[:o.next]...)
}

// finish emits what is left: the end of the output.
func (o *Output) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.full {
		if len(o.partial) > 0 {
			o.flush()
		}
		return
	}
	end := o.last()
	if rest := o.total - o.emitted; rest < int64(len(end)) {
		end = end[int64(len(end))-max(rest, 0):]
	}
	lines := bytes.Split(bytes.TrimSuffix(end, []byte("\n")), []byte("\n"))
	first, spent := len(lines), 0
	for first > 0 {
		if spent += min(len(lines[first-1]), maxLine) + lineCost; spent > o.half {
			break
		}
		first--
	}
	if len(end) == 0 {
		return
	}
	kept := int64(0)
	for _, line := range lines[first:] {
		kept += int64(len(line)) + 1
	}
	if left := o.total - o.emitted - kept; left > 0 {
		o.emit(fmt.Sprintf("… %d bytes are left out here …", left))
	}
	for _, line := range lines[first:] {
		if cut := len(line) - maxLine; cut > 0 {
			line = line[cut:]
		}
		o.emit(shownLine(line))
	}
}

// Tail returns at most the last n bytes of what was printed so far.
func (o *Output) Tail(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	end := o.last()
	return string(end[max(0, len(end)-n):])
}

// Total is how many bytes were printed so far.
func (o *Output) Total() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.total
}
