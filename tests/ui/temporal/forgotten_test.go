package temporal

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"github.com/stepwell-flows/stepwell/cards"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/tests/testserver"
)

// shopFlow has what a run can have: a card, a retry, a foreach with an item that fails, a join.
func shopFlow() *flow.Flow {
	return flow.New("ShopFlow",
		flow.Step("load", func(ctx context.Context, s *state) error {
			flow.Log(ctx).Info("loading", "note", s.Note)
			if flow.Current(ctx).Attempt == 1 {
				return errors.New("the shop is closed")
			}
			flow.Card(ctx).Append(cards.ValueBox{Label: "rows", Value: 1200})
			s.Rows = 1200
			return nil
		}, cards.Default(), policies.Retry{MaximumAttempts: 2, InitialInterval: time.Millisecond}),
		flow.Foreach("orders", func(*state) []int { return []int{1, 2, 3} }, func(s *state, n int) { s.Rows = n },
			flow.Step("check", func(ctx context.Context, s *state) error {
				flow.Log(ctx).Info("checking")
				if s.Rows == 2 {
					return flow.Fail("order %d is empty", s.Rows)
				}
				return nil
			}),
		).With(flow.Fan{Tolerate: flow.Percent(50)}).Join("sum", func(_ context.Context, s *state, in flow.Inputs[state]) error {
			s.Rows = in.Len()
			return nil
		}),
	)
}

// slowFlow shows something on its card and waits for a file, in a process of its own.
func slowFlow() *flow.Flow {
	return flow.New("SlowFlow", flow.Step("train", func(ctx context.Context, s *state) error {
		flow.Card(ctx).Append(cards.Markdown("half way, says the *child*"))
		flow.Card(ctx).Refresh()
		for ctx.Err() == nil {
			if _, err := os.Stat(s.Note); err == nil {
				return nil
			}
			time.Sleep(20 * time.Millisecond)
		}
		return ctx.Err()
	}, flow.Isolated{}, cards.Default()))
}

// output is what the program prints, which may end with a code that is not 0.
func output(t testing.TB, dir string, args ...string) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	p := exec.CommandContext(t.Context(), self, append(args, "--state-dir", dir)...)
	p.Env = []string{testserver.Program + "=starter", "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "NO_COLOR=1"}
	out, err := p.CombinedOutput()
	if _, ended := errors.AsType[*exec.ExitError](err); !ended {
		require.NoError(t, err, "%s", out)
	}
	return fmt.Sprintf("%s\nexit code %d", out, p.ProcessState.ExitCode())
}

// get is a page as the server sends it.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	page, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(page)
}

// TestARunIsReadWholeAfterTemporalForgotIt compares everything that reads a run before and after its workflow was deleted.
func TestARunIsReadWholeAfterTemporalForgotIt(t *testing.T) {
	dir := t.TempDir()
	dev := start(t, "dev", "--state-dir", dir)
	address := dev.after("Temporal server ")
	dev.after("worker for ")
	dev.rest()
	require.Contains(t, output(t, dir, "run", "OrderFlow", "--note", "quietly"), "no rows are left")
	require.Contains(t, output(t, dir, "run", "ShopFlow", "--note", "quietly"), "exit code 0")
	temporal, err := client.DialContext(t.Context(), client.Options{
		HostPort: address, ConnectionOptions: client.ConnectionOptions{GetSystemInfoTimeout: time.Minute}, // a busy machine takes more than the default 5 s
	})
	require.NoError(t, err)
	t.Cleanup(temporal.Close)
	ui := start(t, "ui", "--listen", "127.0.0.1:0", "--state-dir", dir)
	base := strings.TrimSuffix(ui.after("pages at "), "/")
	ui.rest()

	order, shop := newest(t, dir, "OrderFlow"), newest(t, dir, "ShopFlow")
	verbs := [][]string{
		{"list"}, {"list", "OrderFlow"}, {"why", order}, {"logs", order}, {"dump", order + "/load"}, {"card", order, "-o", "-"},
		{"show", order}, {"show", shop}, {"show", shop, "--json"}, {"show", shop + "/load"}, {"show", shop + "/check"}, {"show", shop + "/check[1]"}, {"show", shop + "/orders"},
		{"logs", shop}, {"logs", shop + "/check[1]"}, {"dump", shop + "/sum"}, {"dump", shop + "/sum", "Rows"}, {"dump", shop + "/sum", "--json"},
		{"card", shop, "-o", "-"}, {"card", shop + "/orders", "-o", "-"}, {"card", shop + "/load", "-o", "-"}, {"card", shop + "/check[1]", "-o", "-"},
	}
	pages := []string{
		"/", "/runs/OrderFlow", "/runs/" + order, "/runs/" + order + "/tasks/check", "/runs/" + shop, "/runs/" + shop + "/logs", "/runs/" + shop + "/foreach/orders",
		"/runs/" + shop + "/steps/check", "/runs/" + shop + "/tasks/load", "/runs/" + shop + "/tasks/load/cards/default", "/runs/" + shop + "/tasks/load/artifacts",
		"/runs/" + shop + "/tasks/load/logs", "/runs/" + shop + "/tasks/sum/artifacts/Rows", "/runs/" + shop + "/tasks/check[1]",
	}
	read := func() map[string]string {
		all := map[string]string{}
		for _, args := range verbs {
			all[strings.Join(args, " ")] = output(t, dir, args...)
		}
		for _, path := range pages {
			status, page := get(t, base+path)
			require.Equal(t, http.StatusOK, status, "%s: %s", path, page)
			all[path] = page
		}
		return all
	}
	before := read()
	require.Contains(t, before["logs "+shop], "checking")
	require.Contains(t, before["dump "+shop+"/sum Rows"], "3")
	require.Contains(t, before["/runs/"+shop+"/logs"], "load#2 loading note=quietly")

	for _, id := range []string{order, shop} {
		_, err := temporal.WorkflowService().DeleteWorkflowExecution(t.Context(), &workflowservice.DeleteWorkflowExecutionRequest{
			Namespace: "default", WorkflowExecution: &commonpb.WorkflowExecution{WorkflowId: id},
		})
		require.NoError(t, err)
		require.Eventually(t, func() bool {
			_, err := temporal.DescribeWorkflowExecution(t.Context(), id, "")
			var gone *serviceerror.NotFound
			return errors.As(err, &gone)
		}, time.Minute, 50*time.Millisecond, "the workflow is deleted")
	}
	for name, after := range read() {
		require.Equal(t, before[name], after, name)
	}
}

// newest is the pathspec of the newest run of a flow. A run's workflow has the same name.
func newest(t testing.TB, dir, flowName string) string {
	t.Helper()
	folders, err := os.ReadDir(filepath.Join(dir, "store", "flows", flowName))
	require.NoError(t, err)
	require.NotEmpty(t, folders)
	return flowName + "/" + folders[len(folders)-1].Name()
}

// TestTheCardOfAnIsolatedStepIsLive reads the card while the step runs in its own process.
func TestTheCardOfAnIsolatedStepIsLive(t *testing.T) {
	dir := t.TempDir()
	enough := filepath.Join(dir, "enough")
	dev := start(t, "dev", "--state-dir", dir)
	dev.after("worker for ")
	dev.rest()
	run := start(t, "run", "SlowFlow", "--state-dir", dir, "--note", enough)
	run.rest()
	ui := start(t, "ui", "--listen", "127.0.0.1:0", "--state-dir", dir)
	base := strings.TrimSuffix(ui.after("pages at "), "/")
	ui.rest()
	card := base + "/runs/SlowFlow/latest/tasks/train/cards/default"
	var live string
	require.Eventually(t, func() bool {
		var status int
		status, live = get(t, card)
		return status == http.StatusOK
	}, time.Minute, 50*time.Millisecond, "the card is written while the step runs")
	require.Contains(t, live, "half way, says the <em>child</em>")
	require.Contains(t, live, "The task is running.")
	require.Contains(t, live, strings.TrimPrefix(newest(t, dir, "SlowFlow"), "SlowFlow/"), "it says which run it is of")
	require.NoError(t, os.WriteFile(enough, nil, 0o600))
	require.NoError(t, run.cmd.Wait())
	_, ended := get(t, card)
	require.Contains(t, ended, "half way, says the <em>child</em>")
	require.NotContains(t, ended, "The task is running.")
	require.Contains(t, ended, "completed")
}
