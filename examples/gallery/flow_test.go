package gallery

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
)

func TestGallery(t *testing.T) {
	t.Parallel()
	run := flowtest.Run(t, Flow(), flowtest.Options{Params: map[string]string{"epochs": "8", "pause": "1ms"}})
	require.Equal(t, records.StatusCompleted, run.Status)
	for step, cards := range map[string][]string{"train": {"curve", "default"}, "show": {"default"}} {
		task, err := run.Task(t.Context(), step)
		require.NoError(t, err)
		names, err := task.Cards(t.Context())
		require.NoError(t, err)
		require.Equal(t, cards, names)
		for _, name := range names {
			page, err := task.Card(t.Context(), name)
			require.NoError(t, err)
			require.NotContains(t, string(page), `class="note`, "something could not be shown")
			require.Equal(t, name == "default", strings.Contains(string(page), `<h2 id="params">`), "a card of one's own has what was put on it alone")
		}
	}
}
