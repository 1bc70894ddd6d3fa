package stepwell

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
)

func TestHelp(t *testing.T) {
	t.Parallel()
	app := App{Flows: []*flow.Flow{trainFlow(), emptyFlow()}}
	for _, verb := range []string{
		"", "run", "run TrainFlow", "resume", "attach", "cancel", "list", "show", "why", "diff", "logs", "dump", "card", "breakers", "breakers reset", "spin", "repro", "check", "graph", "policy", "policy explain", "ui", "dev", "worker", "setup",
	} {
		t.Run(verb, func(t *testing.T) {
			t.Parallel()
			got := call(t.Context(), app, nil, append(strings.Fields(verb), "--help")...)
			require.Equal(t, ExitOK, got.code)
			require.Empty(t, got.err)
			if verb != "" && verb != "run TrainFlow" {
				require.Contains(t, got.out, "\nExamples:\n")
			}
			golden(t, strings.Join(append([]string{"help"}, strings.Fields(verb)...), "-"), got.out)
		})
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	got := call(t.Context(), App{}, nil, "--version")
	require.Equal(t, ExitOK, got.code)
	require.Contains(t, got.out, "go1.")
}

// TestCheckTellsEverything has a flow with several mistakes and two flows of one name.
func TestCheckTellsEverything(t *testing.T) {
	t.Parallel()
	bad := flow.New("BadFlow", flow.Step("x", nothing), flow.Step("x", nothing), flow.Step("not a name", nothing))
	app := App{Flows: []*flow.Flow{bad, emptyFlow(), flow.New("otherflow", flow.Step("only", nothing))}}
	got := call(t.Context(), app, nil, "check")
	require.Equal(t, ExitInput, got.code)
	require.Contains(t, got.out, "ok OtherFlow: 1 step")
	require.Contains(t, got.err, `"x"`)
	require.Contains(t, got.err, `"not a name"`)
	require.Contains(t, got.err, `two flows are named "OtherFlow" and "otherflow"`)
	for line := range strings.Lines(got.err) {
		require.True(t, strings.HasPrefix(line, "error: "), line)
	}

	got = call(t.Context(), app, nil, "check", "BadFlow", "--json")
	require.Equal(t, ExitInput, got.code)
	require.Contains(t, got.out, `"ok": false`)
	require.Equal(t, ExitInput, call(t.Context(), app, nil, "graph", "BadFlow").code)
	require.Equal(t, ExitInput, call(t.Context(), app, nil, "run", "OtherFlow").code, "a program with a mistake runs nothing")
	require.Equal(t, ExitInput, call(t.Context(), App{}, nil, "check").code)
}
