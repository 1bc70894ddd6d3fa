package stepwell

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
)

func TestUIServesUntilItIsInterrupted(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, write := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		env := map[string]string{"STEPWELL_STORE": s.dir}
		ended <- App{Flows: []*flow.Flow{s.flow}}.Run(ctx, []string{"ui", "--listen", "127.0.0.1:0"},
			IO{Out: write, Err: io.Discard, Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
		_ = write.Close()
	}()
	line, err := bufio.NewReader(read).ReadString('\n')
	require.NoError(t, err)
	address := strings.Fields(strings.TrimPrefix(line, "pages at "))[0]
	require.Contains(t, line, s.dir)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"runs/TrainFlow", http.NoBody)
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Contains(t, string(page), completedRun)
	stop()
	<-ended
}

func TestUIRefusesWhatItCannotListenTo(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--listen", "8283"}, ExitInput, "not host:port"},
		{[]string{"--web-ui", "javascript:alert(1)"}, ExitInput, "not the address of a page"},
		{[]string{"--listen", l.Addr().String()}, ExitUnavailable, "choose another port"},
		{[]string{"FLOW"}, ExitInput, "does not know what to do"},
	} {
		got := s.run(t, append([]string{"ui"}, c.args...)...)
		require.Equal(t, c.code, got.code, got.err)
		require.Contains(t, got.err, c.want)
	}
}
