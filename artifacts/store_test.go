package artifacts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/stepwell-flows/stepwell/artifacts/dir"
)

// downFor makes the first n calls of each operation fail as an unavailable store does.
func downFor(n int) func(op, key string, call int) error {
	return func(_, _ string, call int) error {
		if call <= n {
			return errDown
		}
		return nil
	}
}

// A patient store outlasts an outage in every operation.
func TestPatienceOutlastsAnOutage(t *testing.T) {
	t.Parallel()
	content := noise(statBytes)
	for name, do := range map[string]func(s *Store) error{
		"CreateDoc": func(s *Store) error { return s.CreateDoc(t.Context(), "new", nil) },
		"PutDoc":    func(s *Store) error { return s.PutDoc(t.Context(), "doc", nil) },
		"GetDoc":    func(s *Store) error { _, err := s.GetDoc(t.Context(), "doc"); return err },
		"DeleteDoc": func(s *Store) error { return s.DeleteDoc(t.Context(), "doc") },
		"PutBlob":   func(s *Store) error { _, err := s.PutBlob(t.Context(), content); return err },
		"GetBlob":   func(s *Store) error { _, err := s.GetBlob(t.Context(), Sum(nil)); return err },
		"OpenBlob":  func(s *Store) error { _, err := readBlob(t, s, Sum(nil)); return err },
		"Verify":    func(s *Store) error { return s.VerifyBlob(t.Context(), Sum(nil), maxVerifyBytes+1) },
		"List": func(s *Store) error {
			for _, err := range s.List(t.Context(), "") {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFaulty()
			d.set(t, "doc", []byte("x"))
			d.set(t, Sum(nil).key(), nil)
			d.fail = downFor(2)
			require.ErrorIs(t, do(uncached(d)), ErrUnavailable, "patience is 0")
			d.reset()
			require.NoError(t, do(New(d, Options{Patience: time.Minute, CacheBytes: -1})))
		})
	}
}

func TestPatienceEnds(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	d.fail = downFor(1 << 30)
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := New(d, Options{Patience: 300 * time.Millisecond}).GetDoc(t.Context(), "doc")
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorContains(t, err, `load in store "mem:": put off: store unavailable (tried for 300ms)`)
		require.Equal(t, 300*time.Millisecond, time.Since(began))
		require.Greater(t, d.called("get"), 2)
	})

	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err := New(d, Options{Patience: time.Hour}).GetDoc(ctx, "doc")
	require.ErrorIs(t, err, ErrUnavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	// What waiting does not help is told at once.
	d.reset()
	d.fail = nil
	_, err = New(d, Options{Patience: time.Hour}).GetDoc(t.Context(), "doc")
	require.ErrorIs(t, err, ErrNotFound)
	require.Equal(t, 1, d.called("get"))
}

// A conditional put whose answer got lost is not taken for somebody else's document.
func TestCreateDocKnowsItsOwn(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	d.lost = func(_ string, call int) error {
		if call == 1 {
			return errDown
		}
		return nil
	}
	s := New(d, Options{Patience: time.Minute})
	require.NoError(t, s.CreateDoc(t.Context(), "doc", []byte("mine")))
	require.Equal(t, 2, d.called("put"))
	require.ErrorIs(t, s.CreateDoc(t.Context(), "doc", []byte("mine")), ErrExists)

	d.reset()
	d.fail = func(op, key string, call int) error {
		if op == "put" && call == 1 {
			d.set(t, key, []byte("another's"))
			return errDown
		}
		return nil
	}
	require.ErrorIs(t, s.CreateDoc(t.Context(), "contested", []byte("mine")), ErrExists)
	got, err := s.GetDoc(t.Context(), "contested")
	require.NoError(t, err)
	require.Equal(t, "another's", string(got))
}

// A listing that breaks off again and again yields every key once, also when objects come and go meanwhile. Each stretch that brought
// something begins a new patience.
func TestListingsResume(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	var want []string
	for i := range 40 {
		key := fmt.Sprintf("run/%02d/doc", i)
		d.set(t, key, nil)
		want = append(want, key)
	}
	d.fail = func(_, _ string, call int) error {
		if call%50 == 0 {
			return errDown
		}
		return nil
	}
	s := New(d, Options{Patience: time.Minute})
	var got []string
	for info, err := range s.List(t.Context(), "run/") {
		require.NoError(t, err)
		got = append(got, info.Key)
		if len(got) == 20 {
			require.NoError(t, d.Driver.Delete(t.Context(), want[3]))
		}
		if len(got)%7 == 0 {
			d.mu.Lock()
			d.calls["list"] = 49 // the next one fails
			d.mu.Unlock()
		}
	}
	require.Equal(t, want, got)

	var names []string
	d.reset()
	d.fail = func(_, name string, call int) error {
		if call == 10 || call == 15 {
			return errDown
		}
		return nil
	}
	for name, err := range s.Dirs(t.Context(), "run/") {
		require.NoError(t, err)
		names = append(names, name)
	}
	require.Len(t, names, 39)
	require.True(t, slices.IsSorted(names))

	d.fail = downFor(1 << 30)
	yielded := 0
	for _, err := range uncached(d).List(t.Context(), "") {
		yielded++
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorContains(t, err, `list in store "mem:"`)
	}
	require.Equal(t, 1, yielded)
	d.fail = nil
	for _, err := range s.List(t.Context(), "run/") {
		require.NoError(t, err)
		break // a reader may leave
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	s := New(d, Options{Patience: time.Hour})
	require.NoError(t, s.Check(t.Context()))
	for info, err := range s.List(t.Context(), "") {
		require.Fail(t, "a check leaves nothing behind", "%s %v", info.Key, err)
	}
	for _, broken := range []string{"put", "stat", "delete"} {
		d.fail = func(op, _ string, _ int) error {
			if op == broken {
				return errDown
			}
			return nil
		}
		require.ErrorIs(t, s.Check(t.Context()), ErrUnavailable, "it does not wait for patience")
	}

	// Programs that start together check at the same time.
	shared, err := dir.New(t.TempDir())
	require.NoError(t, err)
	errs := make(chan error)
	for range 16 {
		go func() {
			var err error
			for range 50 {
				err = errors.Join(err, New(shared, Options{}).Check(t.Context()))
			}
			errs <- err
		}()
	}
	for range 16 {
		require.NoError(t, <-errs)
	}
}

// A document is read once, and only its own content is believed.
func TestGetDocAs(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := newFaulty()
	s := New(d, Options{})
	require.NoError(t, s.PutDoc(ctx, "doc/a", []byte("one")))
	digest := Sum([]byte("one"))
	for range 2 {
		b, err := s.GetDocAs(ctx, "doc/a", digest)
		require.NoError(t, err)
		require.Equal(t, "one", string(b))
	}
	_, err := s.GetDocAs(ctx, "doc/a", Sum([]byte("two")))
	require.ErrorIs(t, err, ErrCorrupt)
	require.ErrorContains(t, err, `"doc/a"`)

	require.NoError(t, s.DeleteDoc(ctx, "doc/a"))
	kept := s.KeepDoc([]byte("three"))
	b, err := s.GetDocAs(ctx, "doc/never-written", kept)
	require.NoError(t, err)
	require.Equal(t, "three", string(b))
	_, err = New(d, Options{}).GetDocAs(ctx, "doc/a", digest)
	require.ErrorIs(t, err, ErrNotFound)
}
