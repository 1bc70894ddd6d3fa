package stepwell

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// terminal is what the program writes to: two streams, and while a run is followed, a block of lines at the end
// of one of them that is redrawn in place. It is safe for concurrent use.
type terminal struct {
	out, err stream

	mu sync.Mutex
	// drawn is how many lines the block has on the screen, block its stream, lines its text.
	drawn int
	block *stream
	lines []string
	// broken is the first error of writing to out.
	broken error
}

// stream is standard output or standard error. Whoever writes to it writes whole lines.
type stream struct {
	t *terminal
	w io.Writer
	// screen says that the stream ends in a terminal that understands escape sequences and may get them.
	screen bool
	size   func() (width, height int)
	style  style
}

func newTerminal(out, err io.Writer, env func(string) (string, bool)) *terminal {
	t := &terminal{}
	t.out, t.err = newStream(t, out, env), newStream(t, err, env)
	return t
}

func newStream(t *terminal, w io.Writer, env func(string) (string, bool)) stream {
	s := stream{t: t, w: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return s
	}
	for _, name := range []string{"NO_COLOR", "CI"} {
		if v, _ := env(name); v != "" {
			return s
		}
	}
	if v, _ := env("TERM"); v == "dumb" {
		return s
	}
	s.screen, s.style.colour = true, true
	s.size = func() (int, int) {
		width, height, err := term.GetSize(int(f.Fd()))
		if err != nil || width <= 0 || height <= 0 {
			return 80, 24
		}
		return width, height
	}
	return s
}

// width is where lines that need not be whole are cut, 0 for nowhere.
func (s *stream) width() int {
	if !s.screen {
		return 0
	}
	w, _ := s.size()
	return w
}

// Write writes whole lines, above the block if there is one on the same screen.
func (s *stream) Write(p []byte) (int, error) {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.drawn == 0 || !s.screen {
		return s.write(p)
	}
	t.erase()
	n, err := s.write(p)
	t.redraw()
	return n, err
}

func (s *stream) write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil && s == &s.t.out && s.t.broken == nil {
		s.t.broken = err
	}
	return n, err
}

// draw replaces the block by lines, which must fit the screen. Both streams are taken to end on the same one.
func (s *stream) draw(lines []string) {
	t := s.t
	t.mu.Lock()
	defer t.mu.Unlock()
	t.block, t.lines = s, lines
	t.redraw()
}

// leave keeps the block on the screen as it is: what is written from now on follows it.
func (t *terminal) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drawn, t.lines = 0, nil
}

// redraw writes the block over the one that is there, in one write and without blanking it first, so it does not flicker.
func (t *terminal) redraw() {
	var b strings.Builder
	if t.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", t.drawn)
	}
	for _, line := range t.lines {
		b.WriteString("\r" + line + "\x1b[K\n")
	}
	if t.drawn > len(t.lines) {
		b.WriteString("\x1b[J")
	}
	t.drawn = len(t.lines)
	_, _ = t.block.write([]byte(b.String()))
}

// erase takes the block off the screen.
func (t *terminal) erase() {
	_, _ = t.block.write(fmt.Appendf(nil, "\x1b[%dA\r\x1b[J", t.drawn))
	t.drawn = 0
}

// failure is the first error of writing to standard output.
func (t *terminal) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.broken
}
