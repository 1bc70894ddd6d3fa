package stepwell

import (
	"fmt"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

func TestTagHelp(t *testing.T) {
	t.Parallel()
	for _, verb := range []string{"tag", "tag add", "tag remove", "tag replace", "tag list"} {
		got := call(t.Context(), App{Flows: []*flow.Flow{trainFlow()}}, nil, append(strings.Fields(verb), "--help")...)
		require.Equal(t, ExitOK, got.code)
		golden(t, "help-"+strings.ReplaceAll(verb, " ", "-"), got.out)
	}
}

// TestTagVerbs changes the tags of one run, call by call, and looks at what each says.
func TestTagVerbs(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	run := "TrainFlow/" + completedRun
	var log strings.Builder
	for _, args := range [][]string{
		{"tag", "list", run},
		{"tag", "list", run, "--json"},
		{"tag", "add", run, "best", "gpu"},
		{"tag", "add", run, "user:ada"},
		{"tag", "remove", run, "gpu", "never"},
		{"tag", "remove", run, "user:ada", "best"},
		{"tag", "replace", run, "nightly", "weekly run"},
		{"tag", "add", run, "good", "", "two\nlines"},
		{"tag", "add", "TrainFlow/" + hostileRun, "seen", "--json"},
		{"list", "TrainFlow", "--tag", "weekly run"},
		{"show", run, "--json"},
		{"tag", "list", "TrainFlow"},
		{"tag", "list", "TrainFlow", "--json"},
		{"tag", "remove", run, "best", "weekly run"},
		{"tag", "add", run},
		{"tag", "add", "TrainFlow", "x"},
		{"tag", "add", run + "/load", "x"},
		{"tag", "replace", run, "x"},
		{"tag", "list", run + "/load"},
		{"tag", "list", "NoFlow"},
		{"tag", "add", "TrainFlow/norun", "x"},
		{"tag", "nope"},
	} {
		got := s.run(t, args...)
		if args[0] == "show" { // all of it is in other files
			require.Contains(t, got.out, "\"tags\": [\n    \"best\",\n    \"weekly run\"\n  ]")
			continue
		}
		fmt.Fprintf(&log, "$ %q -> %d\n%s", args, got.code, got.out)
		if got.err != "" {
			log.WriteString("-- standard error\n" + got.err)
		}
		log.WriteString("\n")
	}
	s.golden(t, "tag", log.String())
}

func TestListFilters(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	me, err := user.Current()
	require.NoError(t, err)
	ago := func(d time.Duration) time.Time { return time.Now().Add(-d) }
	s.start("mine", ago(36*time.Hour), func(r *records.Run) { r.User, r.Project, r.Branch = me.Username, "fraud", "user."+me.Username })
	s.start("prod", ago(10*time.Minute), func(r *records.Run) { r.Project, r.Branch = "fraud", "prod" })
	for _, test := range []struct{ args, want string }{
		{"--since 1h", "prod"},
		{"--since 2d", "prod mine"},
		{"--since 2026-01-01T13:45 --project fraud", "prod mine"},
		{"--mine", "mine"},
		{"--project fraud --branch prod", "prod"},
		{"--tag project:fraud --user ada", "prod"},
		{"--user eve", ""},
		{"--branch prod --status completed", ""},
	} {
		got := s.run(t, append([]string{"list", "TrainFlow"}, strings.Fields(test.args)...)...)
		var ids []string
		for line := range strings.Lines(got.out) {
			if id := strings.Fields(line)[0]; id != "RUN" {
				ids = append(ids, id)
			}
		}
		require.Equal(t, test.want, strings.Join(ids, " "), "%s: %s", test.args, got.err)
	}
	for args, say := range map[string]string{
		"list TrainFlow --since tomorrow":             `--since "tomorrow" is not a time`,
		"list TrainFlow --since -3h --status odd":     `--status "odd" is not a status`,
		"list TrainFlow --mine --user ada":            "leave one out",
		"list --user ada --since 1h":                  "--since, --user: these choose among a flow's runs (name the flow)",
		"run TrainFlow --branch x --source s":         "a branch and production are of a project (name it: Project, --project)",
		"run TrainFlow --project Fraud --branch a/b":  `project "Fraud" is not allowed`,
		"run TrainFlow --project fraud --branch a/b":  `branch "a/b" is not allowed`,
		"run TrainFlow --source s --tag \xff --tag x": `use UTF-8`,
	} {
		got := s.run(t, strings.Fields(args)...)
		require.Equal(t, ExitInput, got.code, args)
		require.Contains(t, got.err, say, args)
	}
}

func TestLongListsBeginSoon(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	for i := range 120 {
		s.start(runs.NewID(at("18:00:00.000").Add(time.Duration(i)*time.Second)), at("18:00:00.000"), nil)
	}
	got := s.run(t, "list", "TrainFlow", "--limit", "0")
	require.Equal(t, ExitOK, got.code, got.err)
	require.Equal(t, 120+6+1, strings.Count(got.out, "\n"), "each run once, under one heading")
	require.Equal(t, 1, strings.Count(got.out, "STATUS"))
}

func TestBranches(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		o    StartOptions
		want string
	}{
		{StartOptions{}, ""},
		{StartOptions{Project: "p"}, "user.ada"},
		{StartOptions{Project: "p", Branch: "x"}, "test.x"},
		{StartOptions{Project: "p", Production: true}, "prod"},
		{StartOptions{Project: "p", Branch: "x", Production: true}, "prod.x"},
	} {
		require.NoError(t, checkProject(test.o))
		require.Equal(t, test.want, branch(test.o, "ada"))
	}
	require.Equal(t, "user.bob", resumedBranch("user.ada", "bob"))
	require.Equal(t, "prod", resumedBranch("prod", "bob"))
	require.Empty(t, resumedBranch("", "bob"))
}

// TestResumesStayInTheProject plans a resume of a run of a project.
func TestResumesStayInTheProject(t *testing.T) {
	t.Parallel()
	s := newStation(t)
	s.start("of-fraud", at("17:00:00.000"), func(r *records.Run) { r.Project, r.Branch, r.Tags = "fraud", "prod", []string{"nightly"} })
	s.end("of-fraud", records.End{Status: records.StatusFailed, Ended: at("17:00:01.000")})
	c := &Client{store: s.store, reader: runs.New(s.store, nil)}
	p, err := c.PlanResume(t.Context(), s.flow, ResumeOptions{Origin: "of-fraud"})
	require.NoError(t, err)
	doc, _ := p.Start()
	require.Equal(t, "fraud", doc.Project)
	require.Equal(t, "prod", doc.Branch)
	require.Empty(t, doc.Tags, "tags are of a run's own")
}

func TestTagsToSearchByFit(t *testing.T) {
	t.Parallel()
	require.Empty(t, searchTags(nil))
	require.Equal(t, []string{"a", "b"}, searchTags([]string{"a", "b"}))
	long := strings.Repeat("ä", 400)
	require.Equal(t, []string{"a", long, long}, searchTags([]string{"a", long, long, long}))

	many := make([]string, 51)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	require.ErrorContains(t, checkTags(many), "may have 50 tags, these are 51")
	require.NoError(t, checkTags(append(many[:50], "0")))
}
