package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flowtest"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestHello(t *testing.T) {
	t.Parallel()
	run := flowtest.Run(t, Hello(), flowtest.Options{Params: map[string]string{"name": "Ada"}})
	require.Equal(t, records.StatusCompleted, run.Status)
	task, err := run.Task(t.Context(), "send")
	require.NoError(t, err)
	greeting, err := runs.Load[string](t.Context(), task, "Greeting")
	require.NoError(t, err)
	require.Equal(t, "hello, Ada", greeting)
}
