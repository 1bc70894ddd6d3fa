package serve

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/examples/flightdelay"
	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
)

// The program serves what FlightDelayFlow trained, each key once, also after a restart.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	require.ErrorContains(t, Run(t.Context(), []string{"--store", dir}, io.Discard), "train one")
	store, err := artifacts.Open(t.Context(), dir, artifacts.Options{})
	require.NoError(t, err)
	run := flowtest.Run(t, flightdelay.Flow(), flowtest.Options{Store: store})
	require.Equal(t, records.StatusCompleted, run.Status)

	start := func() (url string, stop func()) {
		ctx, cancel := context.WithCancel(t.Context())
		out, in := io.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- Run(ctx, []string{"--store", dir, "--addr", "127.0.0.1:0"}, in) }()
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		_, rest, ok := strings.Cut(line, "http://")
		require.True(t, ok, line)
		url = "http://" + strings.TrimSpace(rest)
		return strings.TrimSuffix(url, "/predict"), func() {
			cancel()
			require.NoError(t, <-ended)
		}
	}
	ask := func(url string, f Flight) (Answer, error) {
		c, err := predict.New(predict.HTTP(url+"/predict", predict.HTTPOptions{}), predict.Options{})
		require.NoError(t, err)
		return predict.Call[Flight, Answer](t.Context(), c, f.Departure+f.Origin, f)
	}
	stats := func(url string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/stats", nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return strings.TrimSpace(string(b))
	}

	early := Flight{Departure: "2001/02/03 06:30", Origin: "BOS", Destination: "LAX", Distance: 2611}
	late := Flight{Departure: "2001/02/02 21:30", Origin: "ORD", Destination: "EWR", Distance: 719}
	url, stop := start()
	a, err := ask(url, early)
	require.NoError(t, err)
	b, err := ask(url, late)
	require.NoError(t, err)
	require.Less(t, a.Probability, b.Probability, "an evening flight of a Friday is late more often than one of a Saturday morning")
	_, err = ask(url, Flight{Departure: "noon"})
	require.ErrorContains(t, err, `departure "noon" is not a time`)
	_, err = ask(url, Flight{Departure: late.Departure})
	require.ErrorContains(t, err, "distance is 0")
	again, err := ask(url, late)
	require.NoError(t, err)
	require.Equal(t, b, again)
	require.Equal(t, `{"keys":4,"executed":4,"most_for_one_key":1}`, stats(url))
	stop()

	url, stop = start()
	defer stop()
	again, err = ask(url, late)
	require.NoError(t, err)
	require.Equal(t, b, again)
	require.Equal(t, `{"keys":0,"executed":0,"most_for_one_key":0}`, stats(url))
}

func TestFaults(t *testing.T) {
	t.Parallel()
	count := map[int]int{}
	f := Faults{Transient: 0.3, Limited: 0.05, Permanent: 0.1, RetryAfter: 1500 * time.Millisecond, Seed: 7}
	var executed Counter
	h := f.Wrap(func(next http.Handler) http.Handler { return next }, executed.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusOK)
	})))
	const requests = 3000
	for i := range requests {
		func() {
			w := &status{header: http.Header{}}
			defer func() {
				if recover() != nil {
					w.code = -1
				}
				count[w.code]++
				if w.code == http.StatusTooManyRequests {
					require.Equal(t, "1", w.header.Get("Retry-After"), "whole seconds")
				}
			}()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
			require.NoError(t, err)
			r.Header.Set(predict.KeyHeader, predict.FormatKey(strings.Repeat("k", 1+i%200)+string(rune('a'+i%26))))
			h.ServeHTTP(w, r)
		}()
	}
	for code, share := range map[int]float64{-1: 0.1, 503: 0.1, 429: 0.05} {
		require.InDelta(t, share, float64(count[code])/requests, 0.03, "%d of %v", code, count)
	}
	require.InDelta(t, 0.09, float64(count[500])/requests, 0.03, "%v", count)
	require.Positive(t, count[422])
	require.Greater(t, count[200], requests/2)

	w := &status{header: http.Header{}}
	out := Faults{OutageFor: time.Hour}.Wrap(func(next http.Handler) http.Handler { return next }, h)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "/", http.NoBody)
	require.NoError(t, err)
	out.ServeHTTP(w, r)
	require.Equal(t, http.StatusServiceUnavailable, w.code)
}

type status struct {
	header http.Header
	code   int
}

func (s *status) Header() http.Header { return s.header }
func (s *status) WriteHeader(code int) {
	if s.code == 0 {
		s.code = code
	}
}
func (s *status) Write(b []byte) (int, error) { return len(b), nil }
