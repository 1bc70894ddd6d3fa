package activities

import (
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/isolate"
)

// A process that was told to end together with its worker is lost with it. The worker may hear of it a little later.
func TestStoppedWithItsWorker(t *testing.T) {
	t.Parallel()
	stopped := make(chan struct{})
	close(stopped)
	for _, c := range []struct {
		exit isolate.Exit
		want bool
	}{
		{isolate.Exit{Code: -1, Signal: syscall.SIGTERM}, true},
		{isolate.Exit{Code: -1, Signal: syscall.SIGHUP}, true},
		{isolate.Exit{Code: 143}, true}, // as a shell tells it
		{isolate.Exit{Code: -1, Signal: syscall.SIGKILL}, false},
		{isolate.Exit{Code: -1, Signal: syscall.SIGSEGV}, false},
		{isolate.Exit{Code: 1}, false},
		{isolate.Exit{}, false},
	} {
		require.Equal(t, c.want, stoppedWith(stopped, c.exit), "%+v", c.exit)
	}
	term := isolate.Exit{Code: -1, Signal: syscall.SIGTERM}
	require.False(t, stoppedWith(make(chan struct{}), term), "somebody has killed it")
	synctest.Test(t, func(t *testing.T) {
		late := make(chan struct{})
		time.AfterFunc(10*time.Millisecond, func() { close(late) })
		require.True(t, stoppedWith(late, term))
	})
}
