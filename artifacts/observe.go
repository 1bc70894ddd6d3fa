package artifacts

import (
	"context"
	"errors"
	"io"
	"iter"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// Call is a call of a store's driver, for metrics.
type Call struct {
	// Operation is "put", "get", "stat", "list", "dirs" or "delete".
	Operation string
	// Outcome is "ok", "not_found", "exists", "unavailable" or "error".
	Outcome string
	// Took is how long it took: a get until the content begins, a listing without what its reader did meanwhile.
	Took time.Duration
}

// observed tells what is called.
type observed struct {
	driver.Driver
	tell func(Call)
}

func (o observed) ended(operation string, began time.Time, err error) {
	o.tell(Call{Operation: operation, Outcome: outcomeOf(err), Took: time.Since(began)})
}

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, driver.ErrNotFound):
		return "not_found"
	case errors.Is(err, driver.ErrExists):
		return "exists"
	case errors.Is(err, driver.ErrUnavailable):
		return "unavailable"
	default:
		return "error"
	}
}

// Put implements driver.Driver.
func (o observed) Put(ctx context.Context, key string, body driver.Body, p driver.PutOptions) error {
	began := time.Now()
	err := o.Driver.Put(ctx, key, body, p)
	o.ended("put", began, err)
	return err
}

// Get implements driver.Driver.
func (o observed) Get(ctx context.Context, key string, offset int64) (io.ReadCloser, error) {
	began := time.Now()
	r, err := o.Driver.Get(ctx, key, offset)
	o.ended("get", began, err)
	return r, err
}

// Stat implements driver.Driver.
func (o observed) Stat(ctx context.Context, key string) (driver.Info, error) {
	began := time.Now()
	info, err := o.Driver.Stat(ctx, key)
	o.ended("stat", began, err)
	return info, err
}

// Delete implements driver.Driver.
func (o observed) Delete(ctx context.Context, key string) error {
	began := time.Now()
	err := o.Driver.Delete(ctx, key)
	o.ended("delete", began, err)
	return err
}

// List implements driver.Driver.
func (o observed) List(ctx context.Context, prefix string) iter.Seq2[driver.Info, error] {
	return listed(o, "list", o.Driver.List(ctx, prefix))
}

// Dirs implements driver.Driver.
func (o observed) Dirs(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return listed(o, "dirs", o.Driver.Dirs(ctx, prefix))
}

func listed[T any](o observed, operation string, list iter.Seq2[T, error]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		began, failure := time.Now(), error(nil)
		for v, err := range list {
			if err != nil {
				failure = err
			}
			paused := time.Now()
			more := yield(v, err)
			began = began.Add(time.Since(paused))
			if !more {
				break
			}
		}
		o.ended(operation, began, failure)
	}
}
