//go:build unix

package isolate

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// childVariable says in the environment of a process that it is a Child.
const childVariable = "STEPWELL_CHILD"

// asked says that the program asks for its Parent, and so would not start all over as a child.
var asked atomic.Bool

// ErrUnprepared says that this program does not call [Parent]. A copy of it would start as if it had been called by a person.
var ErrUnprepared = errors.New("the program does not ask whether it is a copy (call stepwell.App's Main, Worker or Child first of all in main)")

// Conn carries messages between a process and its child, as JSON. Send is safe for concurrent use, Receive is for one goroutine.
type Conn struct {
	mu   sync.Mutex
	enc  *json.Encoder
	dec  *json.Decoder
	r, w *os.File
}

func newConn(r, w *os.File) *Conn {
	return &Conn{enc: json.NewEncoder(w), dec: json.NewDecoder(r), r: r, w: w}
}

// Send sends a message.
func (c *Conn) Send(message any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enc.Encode(message)
}

// Receive waits for a message. It returns io.EOF when the other side is gone.
func (c *Conn) Receive(message any) error { return c.dec.Decode(message) }

// Close ends the connection.
func (c *Conn) Close() {
	c.r.Close()
	c.w.Close()
}

// Parent returns the connection with the process that started this one as a [Child]; ok is false if none did. Call it first of all:
// what comes before it runs in every child.
func Parent() (c *Conn, ok bool) {
	asked.Store(true)
	if os.Getenv(childVariable) == "" {
		return nil, false
	}
	_ = os.Unsetenv(childVariable) // what this process starts is no child
	syscall.CloseOnExec(3)
	syscall.CloseOnExec(4)
	// systemd signals all processes of a unit. When a step ends is for the worker to decide, which gives it time to finish.
	// What this process starts does not inherit that, as it would if the signals were ignored.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	adopt()
	c = newConn(os.NewFile(3, "from parent"), os.NewFile(4, "to parent"))
	if _, err := c.w.Write(hello); err != nil {
		os.Exit(1) // the parent is gone
	}
	return c, true
}

// hello says that a child has got as far as Parent. JSON has no use for it.
var hello = []byte{'\n'}

// Child is a copy of this program, made to do something in its place.
type Child struct {
	*Process
	*Conn
}

// StartChild starts a copy with additional settings in its environment. Its error is a [*StartError] or [ErrUnprepared].
func StartChild(env []string, memory int64, cpu float64) (*Child, error) {
	if !asked.Load() {
		return nil, ErrUnprepared
	}
	path, err := executable()
	if err != nil {
		return nil, &StartError{Program: os.Args[0], err: err}
	}
	there, to, err := os.Pipe()
	if err != nil {
		return nil, &StartError{Program: path, err: err}
	}
	defer there.Close()
	from, back, err := os.Pipe()
	if err != nil {
		to.Close()
		return nil, &StartError{Program: path, err: err}
	}
	defer back.Close()
	p, err := Start(Command{
		Path: path, Args: os.Args[:1], Env: append(append(os.Environ(), env...), childVariable+"=1"),
		Files: []*os.File{there, back}, Memory: memory, CPU: cpu,
	})
	if err != nil {
		to.Close()
		from.Close()
		return nil, err
	}
	go p.Wait() // something else may have the other end of the connection, which is over only when Wait has ended that, too
	return &Child{Process: p, Conn: newConn(from, to)}, nil
}

// Hello waits until the child has got to its [Parent]. It returns io.EOF if it ended before. It is called once, before Receive.
func (c *Child) Hello() error {
	var b [1]byte
	_, err := io.ReadFull(c.r, b[:])
	return err
}

// idle is how long a child is kept ready.
const idle = time.Minute

// Pool keeps one child ready, as it takes a program a while to start. The zero value is ready for use, by several goroutines.
type Pool struct {
	mu       sync.Mutex
	spare    *Child
	starting bool
	timer    *time.Timer
}

// Take returns a child that has said hello, if there is one, or starts one: ready says which. The next one is made ready for the
// call after this.
func (p *Pool) Take() (c *Child, ready bool, err error) {
	p.mu.Lock()
	c, p.spare = p.spare, nil
	p.mu.Unlock()
	defer p.Prepare()
	if c != nil && c.ended.Load() { // a moment ago
		c.discard()
		c = nil
	}
	if c != nil {
		return c, true, nil
	}
	c, err = StartChild(nil, 0, 0)
	return c, false, err
}

// Prepare makes a child ready in the background, unless there is one. It ends by itself if it is not used for a while.
func (p *Pool) Prepare() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spare != nil || p.starting {
		return
	}
	p.starting = true
	go p.prepare()
}

func (p *Pool) prepare() {
	c, err := StartChild(nil, 0, 0)
	if err == nil && c.Hello() != nil {
		c.discard()
		c = nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting = false
	if err != nil || c == nil {
		return // whoever needs one will be told why
	}
	p.spare = c
	p.timer = time.AfterFunc(idle, func() { p.drop(c) })
	go func() {
		c.Wait()
		p.drop(c) // nobody may be given one that has died
	}()
}

func (p *Pool) drop(c *Child) {
	p.mu.Lock()
	mine := p.spare == c
	if mine {
		p.spare = nil
	}
	p.mu.Unlock()
	if mine {
		c.discard()
	}
}

func (c *Child) discard() {
	c.Kill()
	c.Wait()
	c.Close()
}
