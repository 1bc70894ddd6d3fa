package stepwell

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"github.com/stepwell-flows/stepwell/flow"
)

// devApp has an embedded server that another process runs.
func devApp() App {
	return App{Flows: []*flow.Flow{trainFlow()}, Dev: func(context.Context, DevOptions) (*DevServer, error) {
		return &DevServer{Address: "127.0.0.1:1", WebUI: "http://127.0.0.1:8233", Namespace: "default", Shared: true, Stop: func() {}}, nil
	}}
}

func TestSetupEmbedded(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{"setup"}, {"setup", "--check"}} {
		got := call(t.Context(), devApp(), nil, args...)
		require.Equal(t, ExitOK, got.code, got.err)
		require.Contains(t, got.out, "nothing to do: the embedded server has all search attributes")
	}
	got := call(t.Context(), devApp(), nil, "setup", "--json")
	require.Equal(t, ExitOK, got.code, got.err)
	golden(t, "setup-embedded-json", got.out)
	got = call(t.Context(), devApp(), nil, "setup", "--links", "--user", "ada", "--tag", "nightly", "--project", "fraud", "--branch", "prod")
	require.Equal(t, ExitOK, got.code, got.err)
	golden(t, "setup-links", got.out)
}

func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		app  App
		env  map[string]string
		args []string
		want string
	}{
		{App{}, nil, nil, "no Temporal server is configured"},
		{App{}, nil, []string{"--links"}, "the address of the Temporal Web UI is not known"},
		{devApp(), map[string]string{"STEPWELL_WEB_UI": "temporal:8080"}, []string{"--links"}, `STEPWELL_WEB_UI "temporal:8080" is not the address of a page`},
		{devApp(), nil, []string{"--links", "--web-ui", "javascript:alert(1)"}, `--web-ui "javascript:alert(1)" is not the address of a page`},
		{devApp(), nil, []string{"--tag", "x"}, "are for lists (add --links)"},
		{devApp(), nil, []string{"--links", "--branch", "prod"}, "a branch is of a project"},
		{devApp(), nil, []string{"--links", "--check"}, "leave one out"},
	} {
		got := call(t.Context(), test.app, test.env, append([]string{"setup"}, test.args...)...)
		require.Equal(t, ExitInput, got.code, got.err)
		require.Contains(t, got.err, test.want)
	}
}

// What a server answers to those who may not, or cannot, change its search attributes says what to do.
func TestSetupErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err  error
		code int
		want []string
	}{
		{serviceerror.NewPermissionDenied("no", ""), ExitUnavailable, []string{"let an administrator run this", "StepwellPaused=Bool"}},
		{serviceerror.NewUnimplemented("unknown service"), ExitUnavailable, []string{"Temporal Cloud", "tcld namespace search-attributes add", "StepwellTags=KeywordList"}},
		{serviceerror.NewNamespaceNotFound("ml"), ExitUnavailable, []string{"temporal operator namespace create --namespace ml"}},
		{serviceerror.NewUnavailable("away"), ExitUnavailable, []string{`search attributes of namespace "ml": away`}},
		{errors.New("odd"), ExitFailed, []string{"odd"}},
	} {
		err := setupError("ml", test.err)
		require.ErrorIs(t, err, test.err)
		require.Equal(t, test.code, exitCode(t.Context(), err))
		for _, want := range test.want {
			require.ErrorContains(t, err, want)
		}
	}
}
