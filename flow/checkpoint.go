package flow

import "context"

// Checkpoints keep documents of a task, each under a name of the author's choice. The worker puts one into the context.
type Checkpoints interface {
	// Save replaces what is kept under a name.
	Save(ctx context.Context, name string, content []byte) error
	// Load returns nil if nothing is kept under a name.
	Load(ctx context.Context, name string) ([]byte, error)
}

// SaveCheckpoint keeps a document for the next attempt of the running task, on whatever worker, and for the task's attempts in
// runs that are resumed from this one. Unlike artifacts, it stays when the attempt fails. The name is 1 to 64 letters, digits, '.',
// '_' or '-'. Outside of a run nothing is kept.
func SaveCheckpoint(ctx context.Context, name string, content []byte) error {
	if c := from(ctx).Checkpoints; c != nil {
		return c.Save(ctx, name, content)
	}
	return nil
}

// LoadCheckpoint returns what [SaveCheckpoint] kept last under a name, nil if there is nothing.
func LoadCheckpoint(ctx context.Context, name string) ([]byte, error) {
	if c := from(ctx).Checkpoints; c != nil {
		return c.Load(ctx, name)
	}
	return nil, nil
}
