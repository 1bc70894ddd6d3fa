package artifacts

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

// checkTime bounds Check.
const checkTime = 5 * time.Second

// checkKey is another one each time, so that processes that check at the same time do not delete each other's object.
func checkKey() string { return "check/" + rand.Text() }

// Check returns nil if the store can be reached, read and written, and otherwise one line that says what is wrong and how to fix it.
// It answers within about five seconds and does not wait for Patience.
func (s *Store) Check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTime)
	defer cancel()
	d := s.driver
	if o, ok := d.(observed); ok {
		d = o.Driver
	}
	if c, ok := d.(driver.Checker); ok {
		return c.Check(ctx)
	}
	key := checkKey()
	if err := s.driver.Put(ctx, key, driver.Bytes([]byte("stepwell")), driver.PutOptions{}); err != nil {
		return s.fail("check", err)
	}
	if _, err := s.driver.Stat(ctx, key); err != nil {
		return s.fail("check", err)
	}
	return s.fail("check", s.driver.Delete(ctx, key))
}
