package predict_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/activities/predict"
)

// The results of one model are not taken for those of another, whether it has another path, another query or another host.
func TestBatchOfAnotherModel(t *testing.T) {
	t.Parallel()
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, `{"twice":%d}`, len(r.URL.RequestURI())) })
	n, host := &notes{}, serve(t, h)
	for _, at := range [][2]string{{host, "/a"}, {host, "/aa"}, {host, "/aa?version=1"}, {serve(t, h), "/a"}} {
		c := newClient(t, at[0]+at[1], predict.Options{})
		for again := range 2 {
			out, err := predict.Batch[question, reaction](inTask(t, n), c, questions(3), predict.BatchOptions{})
			require.NoError(t, err)
			require.Equal(t, 3*again, out.Report.Restored, at)
			for _, r := range out.Results {
				require.Equal(t, len(at[1]), r.Value.Twice, at)
			}
		}
	}
	for _, doc := range n.docs {
		require.NotContains(t, string(doc), "version=1", "a query may be secret")
	}
}

// score reads what it does not write, as types for the answers of model servers do.
type score struct {
	value  float64
	Hidden string `json:"-"`
}

func (s *score) UnmarshalJSON(b []byte) error {
	var in struct{ Predictions [][]float64 }
	if err := json.Unmarshal(b, &in); err != nil {
		return err
	}
	s.value, s.Hidden = in.Predictions[0][0], "seen"
	return nil
}

// A restored result is the one that was received, whatever its type writes of itself.
func TestBatchRestoresWhatWasReceived(t *testing.T) {
	t.Parallel()
	for name, chunk := range map[string]int{"one by one": 1, "in chunks": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, `{"predictions": [[0.7]]}`)
			})
			if chunk > 1 {
				h = predict.BatchHandler(h, predict.BatchHandlerOptions{})
			}
			n, c := &notes{}, newClient(t, serve(t, h), predict.Options{})
			for again := range 2 {
				out, err := predict.Batch[question, score](inTask(t, n), c, questions(2), predict.BatchOptions{Chunk: chunk})
				require.NoError(t, err)
				require.Equal(t, 2*again, out.Report.Restored)
				require.Equal(t, score{0.7, "seen"}, out.Results[1].Value)
			}
		})
	}
}
