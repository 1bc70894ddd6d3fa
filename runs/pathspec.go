package runs

import (
	"errors"
	"fmt"
	"strings"

	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/records"
)

// ErrPathspec says that a text cannot name what it should name, whatever the store holds.
var ErrPathspec = errors.New("malformed")

// LatestRun stands for a flow's newest run in a pathspec.
const LatestRun = "latest"

// Pathspec names a flow, a run of it, or a task of that run: "Flow", "Flow/run", "Flow/run/task".
type Pathspec struct {
	Flow string
	// Run is the run's id or [LatestRun]; empty when the flow is named.
	Run string
	// Task is like "fit" or "fit[3]"; empty when the run or the flow is named.
	Task string
}

// ParsePathspec reads a pathspec of one to three parts. What is malformed is [ErrPathspec].
func ParsePathspec(text string) (Pathspec, error) {
	bad := func(why string) (Pathspec, error) {
		return Pathspec{}, fmt.Errorf("%w pathspec %q: %s (write Flow, Flow/run or Flow/run/step; the run may be %q)", ErrPathspec, text, why, LatestRun)
	}
	parts := strings.Split(text, "/")
	if len(parts) > 3 {
		return bad("it has more than three parts")
	}
	var p Pathspec
	for i, part := range parts {
		if why := checkName(part); why != "" {
			return bad(why)
		}
		switch i {
		case 0:
			p.Flow = part
		case 1:
			p.Run = part
		case 2:
			p.Task = part
		}
	}
	if p.Run != "" && p.Run != LatestRun {
		if err := records.CheckRunID(p.Run); err != nil {
			return Pathspec{}, fmt.Errorf("%w pathspec %q: %w", ErrPathspec, text, err)
		}
	}
	if _, _, err := flow.ParseTaskName(p.Task); err != nil {
		return Pathspec{}, fmt.Errorf("%w pathspec %q: %w", ErrPathspec, text, err)
	}
	return p, nil
}

// checkName says why a name cannot be one part of a key in the store, "" if it can.
func checkName(name string) string {
	switch {
	case name == "":
		return "a part is empty"
	case name == "." || name == "..":
		return "it is a path"
	case strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' || r == '/' || r == 0xfffd }):
		return "it has a character that names cannot have"
	case len(name) > 200:
		return "a part is too long"
	}
	return ""
}

// String is the pathspec as text.
func (p Pathspec) String() string {
	switch {
	case p.Task != "":
		return p.Flow + "/" + p.Run + "/" + p.Task
	case p.Run != "":
		return p.Flow + "/" + p.Run
	}
	return p.Flow
}
