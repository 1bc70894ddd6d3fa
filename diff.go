package stepwell

import (
	"context"
	"errors"
	"fmt"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
	"github.com/stepwell-flows/stepwell/runs"
)

// diffDocument is what differs between two runs: of diff. What is the same is left out.
type diffDocument struct {
	A string `json:"a"`
	B string `json:"b"`
	// Same says that nothing differs, in the steps that were compared.
	Same    bool                `json:"same"`
	Status  *[2]records.Status  `json:"status,omitempty"`
	Code    *[2]string          `json:"code,omitempty"`
	Params  []paramDiffDocument `json:"params,omitempty"`
	Added   []string            `json:"added_steps,omitempty"`
	Removed []string            `json:"removed_steps,omitempty"`
	// Steps are those that differ, in the order of the plan; without --all it is the first one.
	Steps []stepDiffDocument `json:"steps,omitempty"`
}

// paramDiffDocument is a parameter that differs. Null stands for a value that is not there.
type paramDiffDocument struct {
	Name string  `json:"name"`
	A    *string `json:"a"`
	B    *string `json:"b"`
}

// stepDiffDocument is a step that differs, its tasks counted.
type stepDiffDocument struct {
	Step    string `json:"step"`
	Same    int    `json:"same"`
	Differ  int    `json:"differ"`
	OnlyInA int    `json:"only_in_a"`
	OnlyInB int    `json:"only_in_b"`
	// Tasks are the first ones that differ.
	Tasks []taskDiffDocument `json:"tasks"`
}

// taskDiffDocument is how a task differs. A state is empty where the task did not begin.
type taskDiffDocument struct {
	Task string `json:"task"`
	A    string `json:"a,omitempty"`
	B    string `json:"b,omitempty"`
	// Same says that nothing differs.
	Same     bool                   `json:"same,omitempty"`
	States   [2]runs.State          `json:"states"`
	Failures *[2]*policies.Failure  `json:"failures,omitempty"`
	Code     *[2]string             `json:"code,omitempty"`
	Input    []artifactDiffDocument `json:"input,omitempty"`
	// Item says that the item of a foreach differs, Inputs how many inputs of a foreach's join do.
	Item   bool                   `json:"item,omitempty"`
	Inputs int                    `json:"inputs,omitempty"`
	Output []artifactDiffDocument `json:"output,omitempty"`
	Ahead  []aheadDiffDocument    `json:"decisions,omitempty"`
}

// artifactDiffDocument is an artifact that differs. Null stands for one that is not there.
type artifactDiffDocument struct {
	Name string            `json:"name"`
	A    *artifactDocument `json:"a"`
	B    *artifactDocument `json:"b"`
}

// aheadDiffDocument is a shape about which something else was decided.
type aheadDiffDocument struct {
	Shape string        `json:"shape"`
	A     flow.Decision `json:"a"`
	B     flow.Decision `json:"b"`
}

// documentDiff describes a difference. Of the first step it reads what the previews show.
func documentDiff(ctx context.Context, d *runs.Diff, width int) (diffDocument, error) {
	doc := diffDocument{A: d.A.Pathspec(), B: d.B.Pathspec(), Same: d.Same(), Added: d.Added, Removed: d.Removed}
	if d.A.Status != d.B.Status {
		doc.Status = &[2]records.Status{d.A.Status, d.B.Status}
	}
	if d.A.Code != d.B.Code {
		doc.Code = &[2]string{d.A.Code, d.B.Code}
	}
	for _, p := range d.Params {
		doc.Params = append(doc.Params, paramDiffDocument(p))
	}
	for i, s := range d.Steps {
		step := stepDiffDocument{Step: s.Step, Same: s.Same, Differ: s.Differ, OnlyInA: s.OnlyA, OnlyInB: s.OnlyB, Tasks: []taskDiffDocument{}}
		for _, t := range s.Tasks {
			task, err := documentTaskDiff(ctx, &t, width, i == 0)
			if err != nil {
				return doc, err
			}
			step.Tasks = append(step.Tasks, task)
		}
		doc.Steps = append(doc.Steps, step)
	}
	return doc, nil
}

func documentTaskDiff(ctx context.Context, d *runs.TaskDiff, width int, read bool) (taskDiffDocument, error) {
	doc := taskDiffDocument{Task: d.Task, Same: d.Same(), Item: d.Item, Inputs: d.Inputs, States: [2]runs.State{runs.NotStarted, runs.NotStarted}}
	var store [2]*artifacts.Store
	var failures [2]*policies.Failure
	for i, t := range []*runs.Task{d.A, d.B} {
		if t == nil {
			if d.Untold {
				doc.States[i] = runs.InBatches
			}
			continue
		}
		doc.States[i], failures[i], store[i] = t.State, t.Failure, t.Run().Store()
		if i == 0 {
			doc.A = t.Pathspec()
		} else {
			doc.B = t.Pathspec()
		}
	}
	if d.Failed || d.A == nil || d.B == nil {
		doc.Failures = &failures
	}
	if d.CodeA != d.CodeB {
		doc.Code = &[2]string{d.CodeA, d.CodeB}
	}
	for _, a := range d.Ahead {
		doc.Ahead = append(doc.Ahead, aheadDiffDocument(a))
	}
	var err error
	if doc.Input, err = documentArtifactDiffs(ctx, d.Input, store, width, read); err != nil {
		return doc, err
	}
	doc.Output, err = documentArtifactDiffs(ctx, d.Output, store, width, read)
	return doc, err
}

func documentArtifactDiffs(ctx context.Context, diffs []runs.ArtifactDiff, store [2]*artifacts.Store, width int, read bool) ([]artifactDiffDocument, error) {
	var out []artifactDiffDocument
	for _, d := range diffs {
		doc := artifactDiffDocument{Name: d.Name}
		for i, e := range []*artifacts.Entry{d.A, d.B} {
			if e == nil {
				continue
			}
			one, err := documentEntry(ctx, store[i], d.Name, *e, width, read)
			if err != nil {
				return nil, err
			}
			if i == 0 {
				doc.A = &one
			} else {
				doc.B = &one
			}
		}
		out = append(out, doc)
	}
	return out, nil
}

// documentEntry describes an artifact, with a preview of its content if that is small and may be read.
func documentEntry(ctx context.Context, store *artifacts.Store, name string, e artifacts.Entry, width int, read bool) (artifactDocument, error) {
	d := artifactDocument{Name: name, Type: e.Type, Codec: e.Codec, Size: e.Size, Digest: e.Digest, SetBy: e.By, File: e.Name}
	content := e.Inline
	if read && content == nil && e.Size <= previewed && e.Name == "" {
		var err error
		content, err = store.Content(ctx, e)
		switch {
		case errors.Is(err, artifacts.ErrNotFound):
			d.Preview = "(the content is gone)"
		case errors.Is(err, artifacts.ErrCorrupt):
			d.Preview = "(the content is damaged)"
		case err != nil:
			return d, fmt.Errorf("artifact %q: %w", name, err)
		}
	}
	if d.Preview == "" {
		d.Preview = artifacts.Preview(e, content, width)
	}
	return d, nil
}
