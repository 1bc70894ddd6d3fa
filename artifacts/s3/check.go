package s3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

const (
	// checkTime bounds Check.
	checkTime = 5 * time.Second
	// credentialsTime bounds the search for credentials in it, which ends with asking for the role of a machine.
	credentialsTime = 3 * time.Second
)

// Check implements driver.Checker. It writes, reads, lists and deletes an object, and makes sure that the server heeds conditions.
func (d *Driver) Check(ctx context.Context) error {
	began := time.Now()
	checkCtx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	err := d.check(checkCtx)
	if err == nil {
		return nil
	}
	if _, explained := errors.AsType[*answerError](err); !explained && errors.Is(err, context.DeadlineExceeded) {
		err = unavailable(fmt.Sprintf("no answer from %s within %s (check the endpoint, and that this machine may reach it)",
			d.endpoint, time.Since(began).Round(time.Second/10)), err)
	}
	return fmt.Errorf("store %q: %w", d.location, err)
}

func (d *Driver) check(ctx context.Context) error {
	if err := d.checkCredentials(ctx); err != nil {
		return err
	}
	key := "check/" + rand.Text() // of its own: others may check at the same time
	body := driver.Bytes([]byte(key))
	if err := d.Put(ctx, key, body, driver.PutOptions{IfAbsent: true}); err != nil {
		return bare(err)
	}
	// If this fails after the rest did, the object stays.
	defer func() { _ = d.Delete(ctx, key) }()
	switch err := d.Put(ctx, key, body, driver.PutOptions{IfAbsent: true}); {
	case err == nil:
		return fmt.Errorf("%s ignores If-None-Match, so two writers could create the same object (use a server that supports conditional writes)", d.endpoint)
	case !errors.Is(err, driver.ErrExists):
		return bare(err)
	}
	if err := d.checkRead(ctx, key); err != nil {
		return err
	}
	for _, err := range d.List(ctx, key) {
		if err != nil {
			return bare(err)
		}
	}
	return bare(d.Delete(ctx, key))
}

func (d *Driver) checkCredentials(ctx context.Context) error {
	chain := d.client.Options().Credentials
	if chain == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, credentialsTime)
	defer cancel()
	_, err := chain.Retrieve(ctx)
	if err == nil {
		return nil
	}
	// Not with ctx: that there was no answer in time is the same as that there was none.
	return d.classify(context.WithoutCancel(ctx), err)
}

func (d *Driver) checkRead(ctx context.Context, key string) error {
	r, err := d.Get(ctx, key, 0)
	if err != nil {
		return bare(err)
	}
	defer r.Close()
	content, err := io.ReadAll(r)
	if err == nil && string(content) != key {
		err = fmt.Errorf("%s returns other content than was written (something between changes it)", d.endpoint)
	}
	return err
}

// bare is the error without the operation and the key, which mean nothing to who asked for a check.
func bare(err error) error {
	if cause := errors.Unwrap(err); cause != nil {
		return cause
	}
	return err
}
