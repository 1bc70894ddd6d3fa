package predict_test

import (
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
