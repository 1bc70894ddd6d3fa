package activities

import (
	"context"
	"errors"
	"fmt"
	"regexp"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/policies"
	"github.com/stepwell-flows/stepwell/records"
)

// checkpoints keeps a task's checkpoints in the store, with the first run of a chain of resumes.
type checkpoints struct {
	store           *artifacts.Store
	flow, run, step string
	index           flow.Index
}

var legalCheckpoint = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func (c checkpoints) key(name string) (string, error) {
	if !legalCheckpoint.MatchString(name) || name[0] == '.' {
		err := fmt.Errorf("checkpoint %q is not a name for one (use 1 to 64 letters, digits, '.', '_' or '-', no '.' in front)", name)
		return "", policies.WithClass(err, policies.Permanent)
	}
	return records.CheckpointKey(c.flow, c.run, c.step, c.index, name), nil
}

// Save implements flow.Checkpoints.
func (c checkpoints) Save(ctx context.Context, name string, content []byte) error {
	key, err := c.key(name)
	if err != nil {
		return err
	}
	if err := c.store.PutDoc(ctx, key, content); err != nil {
		return fmt.Errorf("save checkpoint %q: %w", name, err)
	}
	return nil
}

// Load implements flow.Checkpoints.
func (c checkpoints) Load(ctx context.Context, name string) ([]byte, error) {
	key, err := c.key(name)
	if err != nil {
		return nil, err
	}
	content, err := c.store.GetDoc(ctx, key)
	if errors.Is(err, artifacts.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("load checkpoint %q: %w", name, err)
	}
	return content, nil
}
