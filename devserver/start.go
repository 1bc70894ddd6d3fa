package devserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/stepwell-flows/stepwell"
)

const (
	// sharePatience is how long Start waits for a server that another process is starting or stopping.
	sharePatience = 30 * time.Second
	// findPatience is the same for who only looks for a server: long enough for one that is starting.
	findPatience = 3 * time.Second
	// followInterval is how often a process that shares a server looks whether it must take over.
	followInterval = 100 * time.Millisecond
	// retryInterval is how long a takeover that did not work is left alone.
	retryInterval = time.Second
)

// Start runs a Temporal server on the state in o.Dir, or joins the one that another process runs there. It returns
// when a client can start workflows. The context limits the start only; call Stop to end the server.
//
// A joined server may end at any time. Then this process starts it again on the same ports, in the background, and
// clients reconnect by themselves. With o.Existing it does not: a process that only reads leaves the directory alone.
func Start(ctx context.Context, o stepwell.DevOptions) (*stepwell.DevServer, error) {
	if o.Dir == "" {
		return nil, errors.New("development server without a directory (set DevOptions.Dir)")
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, err
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	s := &session{dir: dir, options: o, stopping: make(chan struct{}), stopped: make(chan struct{})}
	if o.Existing {
		return s.find(ctx)
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, unwritable(o.Dir, err)
	}
	deadline := time.Now().Add(sharePatience)
	for {
		held, err := tryLock(s.lockPath())
		if err != nil {
			return nil, unwritable(o.Dir, err)
		}
		if held != nil {
			return s.lead(ctx, held)
		}
		found, err := s.running(ctx)
		if err == nil {
			return s.follow(found)
		}
		if time.Now().After(deadline) {
			return nil, noAnswer(o.Dir, found, err)
		}
		if waitErr := sleep(ctx, 10*time.Millisecond); waitErr != nil {
			return nil, fmt.Errorf("wait for the server of %q: %w", o.Dir, errors.Join(waitErr, err))
		}
	}
}

func unwritable(dir string, err error) error {
	return fmt.Errorf("state directory %q: %w (choose another one, or make it writable)", dir, err)
}

func noAnswer(dir string, o owner, err error) error {
	process := "another process"
	if o.PID != 0 {
		process = fmt.Sprintf("process %d", o.PID)
	}
	return fmt.Errorf("%s holds the server of %q, but it does not answer: %w (end that process)", process, dir, err)
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// session is this process's part in the server of one directory.
type session struct {
	dir     string
	options stepwell.DevOptions
	once    sync.Once

	stopping chan struct{} // closed by Stop
	stopped  chan struct{} // closed when a follower has let go
}

func (s *session) lockPath() string  { return filepath.Join(s.dir, "server.lock") }
func (s *session) ownerPath() string { return filepath.Join(s.dir, "server.owner") }

// running is the server that another process runs, if it answers.
func (s *session) running(ctx context.Context) (owner, error) {
	found, err := readOwner(s.ownerPath())
	if err != nil {
		return owner{}, err
	}
	return found, found.verify(ctx)
}

// find uses the server of another process, if there is one, and writes nothing.
func (s *session) find(ctx context.Context) (*stepwell.DevServer, error) {
	deadline := time.Now().Add(findPatience)
	for {
		// The lock tells at once what asking a dead address may take long to find out.
		held, err := isLocked(s.lockPath())
		if err != nil {
			return nil, fmt.Errorf("state directory %q: %w", s.options.Dir, err)
		}
		if !held {
			return nil, fmt.Errorf("no process runs a server in %q (start one without DevOptions.Existing)", s.options.Dir)
		}
		found, err := s.running(ctx)
		if err == nil {
			return s.handle(found, true, func() {}), nil
		}
		if time.Now().After(deadline) {
			return nil, noAnswer(s.options.Dir, found, err)
		}
		if waitErr := sleep(ctx, 10*time.Millisecond); waitErr != nil {
			return nil, fmt.Errorf("wait for the server of %q: %w", s.options.Dir, errors.Join(waitErr, err))
		}
	}
}

// lead starts the server in this process.
func (s *session) lead(ctx context.Context, held *lock) (*stepwell.DevServer, error) {
	i, err := launch(ctx, s.dir, s.options, nil)
	if err != nil {
		held.unlock()
		return nil, err
	}
	return s.handle(i.owner, false, func() {
		i.stop()
		held.unlock()
	}), nil
}

// follow uses the server of another process and stands by to take over.
func (s *session) follow(found owner) (*stepwell.DevServer, error) {
	if s.options.Port != 0 && s.options.Port != found.Port {
		return nil, fmt.Errorf("process %d runs the server of %q on port %d already, not on %d (leave the port out to share it)",
			found.PID, s.options.Dir, found.Port, s.options.Port)
	}
	go s.standBy(found)
	return s.handle(found, true, func() {
		close(s.stopping)
		<-s.stopped
	}), nil
}

func (s *session) handle(o owner, shared bool, stop func()) *stepwell.DevServer {
	return &stepwell.DevServer{
		Address:   o.Address,
		WebUI:     o.WebUI,
		Namespace: namespace,
		Shared:    shared,
		Stop:      func() { s.once.Do(stop) },
	}
}

// standBy waits until nobody holds the lock, then runs the server on the ports that this process's clients know.
func (s *session) standBy(known owner) {
	defer close(s.stopped)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	wait := followInterval
	for {
		select {
		case <-s.stopping:
			return
		case <-time.After(wait):
		}
		wait = followInterval
		held, err := tryLock(s.lockPath())
		if err != nil || held == nil {
			continue
		}
		i, err := launch(ctx, s.dir, s.options, &known)
		if err != nil {
			held.unlock()
			if ctx.Err() != nil {
				return
			}
			s.options.Logger.Error("cannot take over the development server; trying again", "address", known.Address, "err", err)
			wait = retryInterval
			continue
		}
		<-s.stopping
		i.stop()
		held.unlock()
		return
	}
}
