package flow

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"time"

	"github.com/stepwell-flows/stepwell/policies"
)

// Info says which task is running. The zero value is what a step sees outside of a run,
// for example in a unit test that calls it as a plain function.
type Info struct {
	Flow, Run, Step string
	// Task is the step's name with the index, like "fit[3]".
	Task string
	// Index is the task's path through foreach shapes and loops.
	Index Index
	// Attempt counts the tries of this task from 1.
	Attempt int
	// Origin is the run that this run was resumed from, "" if it was not.
	Origin string
	// Root is the first run of a chain of resumes, the run itself if it was not resumed.
	Root string
	// Tags are the run's tags at its start.
	Tags []string
	// Project is the project that the run belongs to, "" if none, and Branch its branch of the project: user.NAME, test.NAME, prod
	// or prod.NAME.
	Project, Branch string
	// Previous is why the attempt before this one failed. Nil on the first attempt.
	Previous *policies.Failure
}

// Runtime is what a running task can reach. The worker puts it into the context that a step gets;
// a unit test may do so too. Nil fields are harmless.
type Runtime struct {
	Info        Info
	Log         *slog.Logger
	Card        *CardContent
	Progress    func(done, total int64)
	Checkpoints Checkpoints
	// Redact keeps a value out of the attempt's log.
	Redact func(secret string)
}

type runtimeKey struct{}

// NewContext returns a context in which [Current], [Log], [Card] and [Progress] use r.
func NewContext(ctx context.Context, r Runtime) context.Context {
	return context.WithValue(ctx, runtimeKey{}, r)
}

func from(ctx context.Context) Runtime {
	r, _ := ctx.Value(runtimeKey{}).(Runtime)
	return r
}

// Current says which task is running.
func Current(ctx context.Context) Info { return from(ctx).Info }

// Log is the running task's logger. Its lines are kept with the attempt and shown by "logs".
// Outside of a run it is [slog.Default].
func Log(ctx context.Context) *slog.Logger {
	if l := from(ctx).Log; l != nil {
		return l
	}
	return slog.Default()
}

// Progress tells how far the task is; total 0 means unknown. It is cheap and may be called often:
// the latest value travels with the next heartbeat.
func Progress(ctx context.Context, done, total int64) {
	if p := from(ctx).Progress; p != nil {
		p(done, total)
	}
}

// IdempotencyKey returns a key for calls to services that must not act twice: 32 hexadecimal digits
// that stay the same over all attempts of this task, on whatever worker, and over resumes of the run.
// A step that makes several such calls adds a suffix of its own to each. Outside of a run it is "".
func IdempotencyKey(ctx context.Context) string {
	i := Current(ctx)
	if i.Run == "" {
		return ""
	}
	root := cmp.Or(i.Root, i.Run)
	sum := sha256.Sum256(fmt.Appendf(nil, "stepwell idempotency v1\x00%s\x00%s\x00%s\x00%s", i.Flow, root, i.Step, i.Index.Key()))
	return hex.EncodeToString(sum[:16])
}

// Fail ends the task at once, without another attempt: the author's code knows that trying again
// is of no use, because the input is bad or the result is not good enough. Catch still applies.
func Fail(format string, args ...any) error {
	return policies.WithClass(fmt.Errorf(format, args...), policies.Permanent)
}

// Transient marks an error as passing: it is tried again while attempts are left, whatever its type is.
// It returns nil for nil.
func Transient(err error) error {
	if err == nil {
		return nil
	}
	return policies.WithClass(err, policies.Transient)
}

// RetryAfter marks an error with the wait that the other side asked for. The next attempt, if there is
// one left, starts no sooner than d later. It returns nil for nil.
func RetryAfter(err error, d time.Duration) error {
	if err == nil {
		return nil
	}
	return policies.WithRetryAfter(err, d)
}
