package activities_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"

	"github.com/stepwell-flows/stepwell/activities"
	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/artifacts/mem"
	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// TestSecretsOfAStepAreNowhere looks for a secret that a step logs and fails with in every document that the attempt leaves, in what
// the worker echoes, and in what Temporal is told.
func TestSecretsOfAStepAreNowhere(t *testing.T) {
	t.Parallel()
	const secret = "open-sesame-42"
	f := flow.New("SecretFlow", flow.Step("a", func(ctx context.Context, s *state) error {
		flow.Redact(ctx, secret)
		flow.Log(ctx).With("door", secret).Info("say "+secret, "customer", "cust-77", "password", "anything")
		return errors.New("the door does not know " + secret + " of cust-77")
	}, cards.Default()))
	store := artifacts.New(mem.New(), artifacts.Options{})
	require.NoError(t, records.CreateRun(t.Context(), store, records.Run{Flow: f.Name(), Run: "r", Root: "r", Plan: f.Plan(), WorkflowID: "w"}))
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestActivityEnvironment()
	var echo bytes.Buffer
	activities.New(store, activities.Options{
		Log: slog.NewTextHandler(&echo, nil), Redact: []*regexp.Regexp{regexp.MustCompile(`cust-\d+`)},
	}, f).Register(env)

	_, err := env.ExecuteActivity(activities.StepType(f.Name(), "a"), activities.StepInput{Flow: f.Name(), Run: "r", Step: "a"})
	require.ErrorContains(t, err, "the door does not know [redacted] of [redacted]")
	everywhere := map[string]string{"echo": echo.String(), "error": err.Error()}
	for info, err := range store.List(t.Context(), "") {
		require.NoError(t, err)
		b, err := store.GetDoc(t.Context(), info.Key)
		require.NoError(t, err)
		everywhere[info.Key] = string(b)
	}
	kinds := map[string]bool{}
	for where, text := range everywhere {
		for _, s := range []string{secret, "cust-77", "anything"} {
			require.NotContains(t, text, s, where)
		}
		for _, kind := range []string{"/logs/", "/attempts/", "/cards/"} {
			kinds[kind] = kinds[kind] || strings.Contains(where, kind) && strings.Contains(text, "[redacted]")
		}
	}
	require.Equal(t, map[string]bool{"/logs/": true, "/attempts/": true, "/cards/": true}, kinds)
}
