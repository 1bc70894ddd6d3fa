package predict_test

import (
	"io"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/policies"
)

// A request that broke off is sent again by the client's policy alone: the HTTP library would use up its idle connections.
func TestNothingIsSentUncounted(t *testing.T) {
	t.Parallel()
	const warm = 8
	var executed, waiting atomic.Int32
	all := make(chan struct{})
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(predict.KeyHeader) == `"poison"` {
			_, _ = io.Copy(io.Discard, r.Body)
			executed.Add(1)
			panic(http.ErrAbortHandler)
		}
		if waiting.Add(1) == warm {
			close(all)
		}
		<-all // all at once, so that each has a connection
		double(w, r)
	}))
	c := newClient(t, url, predict.Options{MaxParallel: warm, Retry: quick(1)})
	_, err := predict.Batch[question, reaction](inTask(t, &notes{}), c, questions(warm), predict.BatchOptions{})
	require.NoError(t, err)
	_, err = predict.Call[question, reaction](t.Context(), c, "poison", question{1})
	require.Equal(t, policies.Transient, policies.Classify(err).Class, "%v", err)
	require.EqualValues(t, 1, executed.Load())
}
