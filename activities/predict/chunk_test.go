package predict_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/policies"
)

// An item for which a request fails as a whole does not take the others of its request along.
func TestChunkOutlivesAnItem(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		poison http.HandlerFunc
		class  policies.Class
	}{
		"too large": {code(413), policies.Invalid},
		"no JSON":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, policies.Permanent},
		"crash":     {cut, policies.Transient},
		"too slow":  {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, policies.TimedOut},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := predict.BatchHandler(http.HandlerFunc(double), predict.BatchHandlerOptions{})
			url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if bytes.Contains(body, []byte(`{"n":3}`)) {
					test.poison(w, r)
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				h.ServeHTTP(w, r)
			}))
			o := predict.Options{Retry: quick(3)}
			if test.class == policies.TimedOut {
				o.Timeout = 5 * time.Second // that of the others, too
			}
			out, err := predict.Batch[question, reaction](inTask(t, &notes{}), newClient(t, url, o), questions(30), predict.BatchOptions{Chunk: 30})
			require.NoError(t, err)
			require.Equal(t, map[policies.Class]int{test.class: 1}, out.Report.Failed)
			require.NotNil(t, out.Results[3].Failure)
			require.Equal(t, 58, out.Results[29].Value.Twice)
			require.Less(t, out.Report.Requests, 1+5+6+5, "it is not one request for each item") // in sixes, and one of them in ones
		})
	}
}

// A service that is down as a whole is not asked in more requests than before.
func TestChunksStayTogetherWhenAServiceIsDown(t *testing.T) {
	t.Parallel()
	out, err := predict.Batch[question, reaction](inTask(t, &notes{}), newClient(t, serve(t, code(503)), predict.Options{Retry: quick(3)}),
		questions(30), predict.BatchOptions{Chunk: 30})
	require.NoError(t, err)
	require.Equal(t, map[policies.Class]int{policies.Transient: 30}, out.Report.Failed)
	require.Less(t, out.Report.Requests, 12)
}

// An item's response is a part of the whole one, whatever the client takes and the handler could do.
func TestChunkItemsAreNotCompressed(t *testing.T) {
	t.Parallel()
	h := predict.BatchHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept-Encoding") != "" {
			_, _ = io.WriteString(w, "compressed")
			return
		}
		double(w, r)
	}), predict.BatchHandlerOptions{})
	out, err := predict.Batch[question, reaction](inTask(t, &notes{}), newClient(t, serve(t, h), predict.Options{Retry: quick(1)}), questions(2), predict.BatchOptions{Chunk: 2})
	require.NoError(t, err)
	require.Equal(t, 2, out.Report.Succeeded)
}
