package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts/driver"
)

func ifAbsent(t *testing.T, d driver.Driver) {
	require.NoError(t, d.Put(t.Context(), "a/b", driver.Bytes([]byte("first")), ifNoneIs))
	for range 2 {
		err := d.Put(t.Context(), "a/b", driver.Bytes([]byte("second")), ifNoneIs)
		require.ErrorIs(t, err, driver.ErrExists)
		require.NotErrorIs(t, err, driver.ErrUnavailable)
		require.Equal(t, "first", string(get(t, d, "a/b", 0)))
	}
	// Equal content is no excuse.
	require.ErrorIs(t, d.Put(t.Context(), "a/b", driver.Bytes([]byte("first")), ifNoneIs), driver.ErrExists)

	put(t, d, "a/b", "third")
	require.Equal(t, "third", string(get(t, d, "a/b", 0)), "an unconditional put replaces it")
	require.NoError(t, d.Delete(t.Context(), "a/b"))
	require.NoError(t, d.Put(t.Context(), "a/b", driver.Bytes([]byte("fourth")), ifNoneIs))
	require.Equal(t, "fourth", string(get(t, d, "a/b", 0)))
}

func ifAbsentRace(t *testing.T, d driver.Driver) {
	for round := range 8 {
		race(t, d, fmt.Sprintf("race/%d", round), 32, func(writer int) (driver.Body, []byte) {
			content := fmt.Appendf(nil, "writer %d", writer)
			return driver.Bytes(content), content
		})
	}
	// Nobody can tell these writers apart by what they write.
	race(t, d, "race/equal", 32, func(int) (driver.Body, []byte) {
		return driver.Bytes([]byte("equal")), []byte("equal")
	})
}

func ifAbsentRaceLarge(t *testing.T, d driver.Driver) {
	for _, size := range []int64{9 << 20, -1} {
		race(t, d, fmt.Sprintf("race/%d", size), 4, func(writer int) (driver.Body, []byte) {
			content := bytes.Repeat([]byte{byte('a' + writer)}, 9<<20)
			if size < 0 {
				content = append(content, content...)
			}
			return stream(size, content), content
		})
	}
}

// race lets writers put the same key under the condition that it is absent. One wins, and its content is what is there.
func race(t *testing.T, d driver.Driver, key string, writers int, body func(writer int) (driver.Body, []byte)) {
	t.Helper()
	var won atomic.Int64
	contents := make([][]byte, writers)
	winner := -1
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range writers {
		b, content := body(i)
		contents[i] = content
		all.Go(func() {
			<-start
			switch err := d.Put(t.Context(), key, b, ifNoneIs); {
			case err == nil:
				if won.Add(1) == 1 {
					winner = i
				}
			case !errors.Is(err, driver.ErrExists):
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	close(start)
	all.Wait()
	require.Equal(t, int64(1), won.Load(), "writers that created %q", key)
	requireSame(t, contents[winner], get(t, d, key, 0))
}
