package predictions

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stepwell-flows/stepwell/activities/predict"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/examples/modelserver/serve"
	"github.com/stepwell-flows/stepwell/flowtest"
)

// A worker that is killed, wherever it is, changes no prediction and has no flight predicted twice, although the server loses
// some of its answers.
func TestEveryCrash(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		params map[string]string
		sample int
	}{
		"batches": {params: map[string]string{"count": "12", "batch": "5"}},
		"each":    {params: map[string]string{"count": "6", "batch": "0"}, sample: 16},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var executed flowtest.Ledger
			model := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				key, _ := predict.ParseKey(r.Header)
				executed.Add(key)
				odd(w, r)
			})
			s := httptest.NewServer(serve.Handler(model, artifacts.New(mem.New(), artifacts.Options{}), predict.ServerOptions{}, serve.Faults{Transient: 0.1}))
			t.Cleanup(s.Close)
			test.params["server"] = s.URL
			flowtest.EveryCrash(t, Flow(), test.params, flowtest.CrashOptions{
				Before: executed.Reset, Effects: executed.Counts, Sample: test.sample,
			})
		})
	}
}
