package devserver

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell"
)

// logBuffer collects what a logger writes.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

// occupied is a listener on a port that nothing else wants.
func occupied(t *testing.T) (*net.TCPListener, int) {
	t.Helper()
	l, err := net.Listen("tcp", hostPort(0))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l.(*net.TCPListener), l.Addr().(*net.TCPAddr).Port
}

// A follower whose port cannot be had says so and goes on trying. The Web UI just moves.
func TestStandByWaitsForThePort(t *testing.T) {
	t.Parallel()
	var log logBuffer
	frontend, port := occupied(t)
	_, webUIPort := occupied(t)
	known := owner{Address: hostPort(port), Port: port, WebUI: "http://" + hostPort(webUIPort), WebUIPort: webUIPort}
	s := &session{
		dir: t.TempDir(), options: stepwell.DevOptions{Logger: log.logger()},
		stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	go s.standBy(known)
	stop := sync.OnceFunc(func() { close(s.stopping); <-s.stopped })
	t.Cleanup(stop)
	require.Eventually(t, func() bool {
		return bytes.Contains([]byte(log.String()), []byte("trying again"))
	}, time.Minute, 10*time.Millisecond)
	require.Contains(t, log.String(), errPort.Error())
	require.NoError(t, frontend.Close())

	var now owner
	require.Eventually(t, func() bool {
		var err error
		now, err = s.running(t.Context())
		return err == nil
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, known.Address, now.Address)
	require.NotZero(t, now.WebUIPort)
	require.NotEqual(t, webUIPort, now.WebUIPort)
	stop()
	require.NoFileExists(t, s.ownerPath())
	held, err := isLocked(s.lockPath())
	require.NoError(t, err)
	require.False(t, held)
}

// Whoever lets go before its turn has come leaves nothing behind.
func TestStandByStops(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	held, err := tryLock(filepath.Join(dir, "server.lock"))
	require.NoError(t, err)
	require.NotNil(t, held)
	s := &session{
		dir: dir, options: stepwell.DevOptions{Logger: slog.New(slog.DiscardHandler)},
		stopping: make(chan struct{}), stopped: make(chan struct{}),
	}
	go s.standBy(owner{Port: 1})
	close(s.stopping)
	<-s.stopped
	held.unlock()
	require.NoFileExists(t, filepath.Join(dir, "temporal.db"))
}

// A port can be lost between its choice and its use. That must neither end the process nor prevent the next try.
func TestStartServerLosesAPort(t *testing.T) {
	t.Parallel()
	var log logBuffer
	db, _, err := openDatabase(t.Context(), t.TempDir())
	require.NoError(t, err)
	for _, lose := range []func(*ports) *int{
		func(p *ports) *int { return &p.frontend },
		func(p *ports) *int { return &p.history },
		func(p *ports) *int { return &p.matching },
		func(p *ports) *int { return &p.worker },
	} {
		p := freePorts(t)
		_, *lose(&p) = occupied(t)
		_, err = startServer(t.Context(), db, p, newLogger(log.logger()))
		require.ErrorIs(t, err, syscall.EADDRINUSE)
		require.NotErrorIs(t, err, errPort)
	}
	server, err := startServer(t.Context(), db, freePorts(t), newLogger(slog.New(slog.DiscardHandler)))
	require.NoError(t, err)
	require.True(t, stopServer(server))
}

func TestStartServerCanceled(t *testing.T) {
	t.Parallel()
	db, _, err := openDatabase(t.Context(), t.TempDir())
	require.NoError(t, err)
	p := freePorts(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = startServer(ctx, db, p, newLogger(slog.New(slog.DiscardHandler)))
	require.ErrorContains(t, err, "wait for the Temporal server")
	l, err := net.Listen("tcp", hostPort(p.frontend))
	require.NoError(t, err, "the server that nobody waited for has ended")
	require.NoError(t, l.Close())
}

func freePorts(t *testing.T) (p ports) {
	t.Helper()
	picker := newPortPicker(t.Name())
	defer picker.release()
	for _, port := range []*int{&p.frontend, &p.history, &p.matching, &p.worker} {
		var err error
		*port, err = picker.free()
		require.NoError(t, err)
	}
	return p
}
