//go:build linux

package isolate

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The connection with a child that has ended is over, though something that it left behind has it, too.
func TestChildLeavesItsConnection(t *testing.T) {
	t.Parallel()
	c, err := StartChild(nil, 0, 0)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.Hello())
	require.NoError(t, c.Send("fork"))
	ended := make(chan error, 1)
	go func() {
		var answer string
		ended <- c.Receive(&answer)
	}()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, io.EOF)
	case <-time.After(30 * time.Second):
		c.Kill()
		t.Fatal("the survivor keeps the connection")
	}
	require.Equal(t, 7, c.Wait().Code)
}
