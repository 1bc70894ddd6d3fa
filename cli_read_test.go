package stepwell

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/records"
)

// TestReadingVerbs compares what each verb prints, for people and for scripts.
func TestReadingVerbs(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	for _, test := range []struct {
		name string
		args string
		code int
	}{
		{"list", "list", ExitOK},
		{"list-json", "list --json", ExitOK},
		{"list-flow", "list TrainFlow", ExitOK},
		{"list-flow-json", "list TrainFlow --limit 2 --json", ExitOK},
		{"list-failed", "list TrainFlow --status failed --status cancelled --limit 1", ExitOK},
		{"list-tag", "list TrainFlow --tag nightly --tag gpu", ExitOK},
		{"list-none", "list TrainFlow --tag never", ExitOK},
		{"show-completed", "show TrainFlow/" + completedRun, ExitOK},
		{"show-completed-json", "show TrainFlow/" + completedRun + " --json", ExitOK},
		{"show-failed", "show TrainFlow/" + failedRun, ExitOK},
		{"show-resumed", "show TrainFlow/" + resumedRun, ExitOK},
		{"show-cancelled", "show TrainFlow/" + cancelledRun, ExitOK},
		{"show-latest-unknown", "show TrainFlow/latest", ExitOK},
		{"show-hostile", "show TrainFlow/" + hostileRun, ExitOK},
		{"show-task", "show TrainFlow/" + completedRun + "/load", ExitOK},
		{"show-task-json", "show TrainFlow/" + completedRun + "/load --json", ExitOK},
		{"show-task-caught", "show TrainFlow/" + completedRun + "/evaluate", ExitOK},
		{"show-task-files", "show TrainFlow/" + completedRun + "/report", ExitOK},
		{"show-task-failed", "show TrainFlow/" + failedRun + "/train", ExitOK},
		{"show-task-reused", "show TrainFlow/" + resumedRun + "/load", ExitOK},
		{"show-task-not-started", "show TrainFlow/" + failedRun + "/report", ExitOK},
		{"show-task-hostile", "show TrainFlow/" + hostileRun + "/train", ExitOK},
		{"why-completed", "why TrainFlow/" + completedRun, ExitOK},
		{"why-failed", "why TrainFlow/" + failedRun, ExitOK},
		{"why-failed-json", "why TrainFlow/" + failedRun + " --json", ExitOK},
		{"why-resumed", "why TrainFlow/" + resumedRun, ExitOK},
		{"why-cancelled", "why TrainFlow/" + cancelledRun, ExitOK},
		{"why-unknown", "why TrainFlow/" + unknownRun, ExitOK},
		{"why-hostile", "why TrainFlow/" + hostileRun, ExitOK},
		{"why-task", "why TrainFlow/" + completedRun + "/load", ExitOK},
		{"why-task-caught", "why TrainFlow/" + completedRun + "/evaluate", ExitOK},
		{"why-task-reused", "why TrainFlow/" + resumedRun + "/load", ExitOK},
		{"why-task-not-started", "why TrainFlow/" + failedRun + "/report", ExitOK},
		{"logs", "logs TrainFlow/" + completedRun, ExitOK},
		{"logs-json", "logs TrainFlow/" + completedRun + " --json", ExitOK},
		{"logs-attempt", "logs TrainFlow/" + completedRun + "/load --attempt 3", ExitOK},
		{"logs-none", "logs TrainFlow/" + cancelledRun, ExitOK},
		{"logs-hostile", "logs TrainFlow/" + hostileRun, ExitOK},
		{"logs-hostile-json", "logs TrainFlow/" + hostileRun + " --json", ExitOK},
		{"dump", "dump TrainFlow/" + completedRun + "/report", ExitOK},
		{"dump-json", "dump TrainFlow/" + completedRun + "/report --include Rows,Report,Data,Model --json", ExitOK},
		{"dump-names", "dump TrainFlow/" + completedRun + "/report --max-value-size 0", ExitOK},
		{"dump-hostile", "dump TrainFlow/" + hostileRun + "/load --include Report", ExitOK},
		{"dump-one", "dump TrainFlow/" + completedRun + "/report Problem", ExitOK},
		{"dump-text", "dump TrainFlow/" + completedRun + "/report Report", ExitOK},
		{"card-list", "card TrainFlow/" + resumedRun + "/report", ExitOK},
		{"card-json", "card TrainFlow/" + resumedRun + "/report --json", ExitOK},
		{"card-stdout", "card TrainFlow/" + resumedRun + "/report plots --output -", ExitOK},
		{"check", "check", ExitOK},
		{"check-json", "check OtherFlow --json", ExitOK},
		{"graph", "graph TrainFlow", ExitOK},
		{"graph-json", "graph OtherFlow --json", ExitOK},
		{"resume-plan", "resume TrainFlow/" + failedRun + " --plan", ExitOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			got := s.run(t, strings.Fields(test.args)...)
			require.Equal(t, test.code, got.code, got.err)
			text := got.out
			if got.err != "" {
				text += "-- standard error\n" + got.err
			}
			s.golden(t, test.name, text)
			require.False(t, strings.ContainsFunc(strings.ReplaceAll(text, "\n", ""), hidden), "%q", text)
			if strings.HasSuffix(test.args, "--json") && !strings.HasPrefix(test.args, "logs") {
				require.True(t, json.Valid([]byte(got.out)), got.out)
			}
		})
	}
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.doc("flows/TrainFlow/20260101-170000-00fffff/run.json", "{")
	run := "TrainFlow/" + completedRun
	for _, test := range []struct {
		args string
		code int
		say  string
	}{
		{"nope", ExitInput, `"nope" is not a command of`},
		{"show", ExitInput, "needs a run, a step or a task"},
		{"show a/b c", ExitInput, `does not know what to do with "c"`},
		{"show --nope", ExitInput, "unknown flag"},
		{"show TrainFlow", ExitInput, "does not name a run"},
		{"show ../x", ExitInput, "malformed pathspec"},
		{"show TrainFlow/../..", ExitInput, "malformed pathspec"},
		{"show TrainFlow/x/../y", ExitInput, "malformed pathspec"},
		{"show /etc/passwd", ExitInput, "malformed pathspec"},
		{"show NoFlow/latest", ExitNotFound, `flow "NoFlow": not found`},
		{"show TrainFlow/norun", ExitNotFound, `run "norun" of flow "TrainFlow": not found`},
		{"show " + run + "/nostep", ExitNotFound, "it has load, train, evaluate, report"},
		{"show " + run + "/load[3]", ExitNotFound, "not found"},
		{"show " + run + "/load[", ExitInput, "malformed"},
		{"show TrainFlow/20260101-170000-00fffff", ExitUnavailable, "corrupt"},
		{"why ..", ExitInput, "malformed pathspec"},
		{"logs " + run + " --attempt 0", ExitInput, "count from 1"},
		{"logs " + run + "/nostep", ExitNotFound, "not found"},
		{"list ../..", ExitInput, "malformed pathspec"},
		{"list " + run, ExitInput, "is not a flow"},
		{"list NoFlow", ExitNotFound, "not found"},
		{"list TrainFlow --status never --limit -1", ExitInput, `--status "never" is not a status`},
		{"dump " + run, ExitInput, "does not name a task"},
		{"dump " + run + "/report Nope", ExitNotFound, `artifact "Nope"`},
		{"dump " + run + "/report --include Rows,Nope", ExitNotFound, `artifact "Nope"`},
		{"dump TrainFlow/" + failedRun + "/train", ExitNotFound, "the task is failed"},
		{"dump " + run + "/report --output x", ExitInput, "name it"},
		{"dump " + run + "/report Rows --include Rows", ExitInput, "not for one"},
		{"dump " + run + "/report Rows --output /nonexistent/x", ExitInput, "directory that exists"},
		{"dump " + run + "/report Rows --output .", ExitInput, "is a directory"},
		{"card " + run + "/load nope", ExitNotFound, "the step has none"},
		{"card " + run + "/report nope", ExitNotFound, "it has default"},
		{"card " + run + "/report ../../x", ExitInput, "malformed card"},
		{"card TrainFlow/" + resumedRun + "/report --open", ExitInput, "has several cards"},
		{"check Nope", ExitInput, "this program has TrainFlow, OtherFlow"},
		{"graph Nope", ExitInput, "is not known"},
		{"run", ExitInput, "run needs a flow"},
		{"run Nope --x", ExitInput, `flow "Nope" is not known`},
		{"run TrainFlow --alpha=x --source=y", ExitInput, `"x" is not a number`},
		{"run TrainFlow", ExitInput, "no Temporal server is configured"},
		{"run TrainFlow --run-id a/b", ExitInput, `run id "a/b" is not allowed`},
		{"resume", ExitInput, "resume needs a flow"},
		{"resume " + run + "/load", ExitInput, "names a task (write Flow or Flow/run, and --step load to run again from there)"},
		{"resume " + run + "/load[3]", ExitInput, "names a task (write Flow or Flow/run, and --step load to run again from there)"},
		{"resume " + run + " --origin other", ExitInput, "two origins"},
		{"resume TrainFlow/norun --plan", ExitInput, "not found"},
		{"attach TrainFlow/norun", ExitNotFound, "not found"},
		{"attach Nope/x", ExitInput, "is not known"},
		{"cancel TrainFlow/norun", ExitNotFound, "not found"},
		{"cancel " + run, ExitInput, "is completed already"},
		{"dev", ExitInput, "no embedded server"},
		{"list --log-level loud", ExitInput, "is not a level"},
		{"list --store ftp://x", ExitUnavailable, "unknown scheme"},
	} {
		t.Run(test.args, func(t *testing.T) {
			t.Parallel()
			got := s.run(t, strings.Fields(test.args)...)
			require.Equal(t, test.code, got.code, "%s%s", got.out, got.err)
			require.Contains(t, got.err, test.say)
			require.True(t, strings.HasPrefix(got.err, "error: "), got.err)
			require.Empty(t, got.out)
		})
	}
}

// TestReadingCreatesNothing calls verbs where there is no state.
func TestReadingCreatesNothing(t *testing.T) {
	t.Parallel()
	s := &station{T: t, flow: trainFlow()}
	dir := filepath.Join(t.TempDir(), "state")
	for _, verb := range [][]string{
		{"list"}, {"list", "TrainFlow"}, {"show", "TrainFlow/latest"}, {"why", "TrainFlow/latest"}, {"logs", "TrainFlow/latest"},
		{"dump", "TrainFlow/latest/load"}, {"card", "TrainFlow/latest/load"}, {"check"}, {"graph", "TrainFlow"}, {"resume", "TrainFlow", "--plan"},
	} {
		got := s.run(t, append(verb, "--state-dir", dir)...)
		switch verb[0] {
		case "check", "graph":
			require.Equal(t, ExitOK, got.code)
		case "resume":
			require.Equal(t, ExitInput, got.code)
		case "list":
			if len(verb) == 1 {
				require.Equal(t, ExitOK, got.code)
				require.Contains(t, got.err, "no runs in")
				break
			}
			fallthrough
		default:
			require.Equal(t, ExitNotFound, got.code, got.err)
		}
	}
	_, err := os.Stat(dir)
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestDumpSavesToAFile(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	dir := t.TempDir()
	for name, want := range map[string]string{
		"Data": "a,b\n1,2\n", "Raw": "\x00\x01\x02\xff", "Report": "AUC 0.71\nfine", "Rows": "1200\n",
	} {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
		got := s.run(t, "dump", "TrainFlow/"+completedRun+"/report", name, "--output", path)
		require.Equal(t, result{ExitOK, path + "\n", ""}, got)
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, want, string(content))
	}
	got := s.run(t, "dump", "TrainFlow/"+completedRun+"/report", "Raw")
	require.Equal(t, result{ExitOK, "\x00\x01\x02\xff", ""}, got)
}

// TestPlanWithToken shows the plan, and says whether it is still the one with the token.
func TestPlanWithToken(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	plan := []string{"resume", "TrainFlow/" + failedRun, "--plan"}
	want := s.run(t, plan...)
	_, token, found := strings.Cut(strings.TrimSpace(want.out), "\ntoken ")
	require.True(t, found, want.out)
	require.Equal(t, want, s.run(t, append(plan, "--token", token)...))
	got := s.run(t, append(plan, "--token", "000000000000")...)
	require.Equal(t, ExitInput, got.code)
	require.Equal(t, want.out, got.out)
	require.Contains(t, got.err, `the plan has changed since token "000000000000" was made`)
}

// TestDumpOfDamagedContent leaves the file that is there alone.
func TestDumpOfDamagedContent(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	require.NoError(t, os.RemoveAll(filepath.Join(s.dir, "blobs")))
	path := filepath.Join(t.TempDir(), "out")
	require.NoError(t, os.WriteFile(path, []byte("old"), 0o600))
	spec := "TrainFlow/" + completedRun + "/report"
	got := s.run(t, "dump", spec, "Model", "--output", path)
	require.Equal(t, ExitUnavailable, got.code, got.err)
	require.Contains(t, got.err, `artifact "Model" of `+spec)
	require.Contains(t, got.err, "not found (restore it from a backup, or run the step that made it again)")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "old", string(content))
	// The other artifacts can still be looked at.
	require.Contains(t, s.run(t, "show", spec).out, "(the content is gone)")
}

// TestWhyOfADamagedLedger does not take an entry that cannot be read for a lost worker.
func TestWhyOfADamagedLedger(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	for n, content := range map[int]string{3: "{", 4: "null"} {
		require.NoError(t, s.store.PutDoc(t.Context(), records.AttemptKey("TrainFlow", failedRun, "train", nil, n), []byte(content)))
	}
	got := s.run(t, "why", "TrainFlow/"+failedRun)
	require.Equal(t, ExitOK, got.code, got.err)
	require.Contains(t, got.out, "attempt 3 is not known: its ledger entry is damaged\n")
	require.Contains(t, got.out, "attempt 4 failed with class Unknown: loss is NaN\n", "the run's failure tells of the last one")
	require.Contains(t, got.out, "1 attempt was lost")
	got = s.run(t, "show", "TrainFlow/"+failedRun+"/train")
	require.Regexp(t, `3  not known\n\s+its ledger entry is damaged\n\s+4  failed`, got.out)
}

func TestCardIsWrittenToTheWorkingDirectory(t *testing.T) {
	s := newStation(t) // not parallel: it changes the working directory
	dir := t.TempDir()
	t.Chdir(dir)
	name := "TrainFlow-" + completedRun + "-report-default.html"
	require.Equal(t, result{ExitOK, name + "\n", ""}, s.run(t, "card", "TrainFlow/"+completedRun+"/report"))
	page, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	require.Equal(t, "<!doctype html><title>report</title>", string(page))
}

// TestHintsFindTheSameStore repeats the flags that the call was given.
func TestHintsFindTheSameStore(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	got := call(t.Context(), App{Flows: nil}, nil, "why", "TrainFlow/"+failedRun, "--store", s.dir, "--state-dir", "it's here")
	require.Equal(t, ExitOK, got.code, got.err)
	require.Contains(t, got.out, " --store "+s.dir+" --state-dir 'it'\\''s here' resume TrainFlow/"+failedRun)
}
