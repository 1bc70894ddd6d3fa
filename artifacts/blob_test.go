package artifacts

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// uncached is a store that reads every blob anew.
func uncached(d *faulty) *Store { return New(d, Options{CacheBytes: -1}) }

func readBlob(t testing.TB, s *Store, d Digest) ([]byte, error) {
	t.Helper()
	r, err := s.OpenBlob(t.Context(), d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// Any content comes back, whole and as a stream, and its object is never more than a few bytes larger.
func TestBlobRoundTrip(t *testing.T) {
	t.Parallel()
	contents := [][]byte{nil, {0}, zstdMagic, append(bytes.Clone(zstdMagic), noise(100)...), pack(make([]byte, 10_000)), noise(511), noise(70_000), make([]byte, 300_000)}
	for _, content := range contents {
		d := newFaulty()
		s := uncached(d)
		digest, err := s.PutBlob(t.Context(), content)
		require.NoError(t, err)
		require.Equal(t, Sum(content), digest)
		whole, err := s.GetBlob(t.Context(), digest)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, whole))
		streamed, err := readBlob(t, s, digest)
		require.NoError(t, err)
		require.True(t, bytes.Equal(content, streamed))
		require.NoError(t, s.VerifyBlob(t.Context(), digest, int64(len(content))))
		require.LessOrEqual(t, len(d.object(t, digest.key())), len(content)+32)
	}
}

// Compression is worth it from a tenth on.
func TestPackSavesATenth(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		random := rapid.IntRange(0, 4000).Draw(t, "random")
		content := append(noise(random), make([]byte, 4000-random)...)
		object := pack(content)
		if looksFramed(object) {
			require.LessOrEqual(t, len(object), len(content)*9/10)
		} else {
			require.Equal(t, content, object)
			require.Greater(t, len(blockEncoder().EncodeAll(content, nil)), len(content)*9/10)
		}
	})
}

// One flipped bit, wherever it is, never passes: not in the middle of a stream either, and no reader of it sees io.EOF. The error names
// object and store, the damaged object is moved away, and writing the content again heals the store.
func TestFlippedBits(t *testing.T) {
	t.Parallel()
	for name, content := range map[string][]byte{
		"raw": noise(3000), "compressed": append(noise(1000), make([]byte, 3000)...), "like a frame": append(bytes.Clone(zstdMagic), noise(2500)...),
	} {
		d := newFaulty()
		s := uncached(d)
		digest, err := s.PutBlob(t.Context(), content)
		require.NoError(t, err)
		sound := d.object(t, digest.key())
		for i := 0; i < len(sound); i += 1 + i/16 {
			for bit := range 8 {
				at := fmt.Sprintf("%s, bit %d of byte %d", name, bit, i)
				object := bytes.Clone(sound)
				object[i] ^= 1 << bit
				d.set(t, digest.key(), object)
				if (i+bit)%2 == 0 {
					_, err = s.GetBlob(t.Context(), digest)
				} else {
					_, err = readBlob(t, s, digest)
				}
				if err == nil { // a bit that means nothing, as some in the head of a frame
					require.True(t, looksFramed(sound) && i < 16, at)
					continue
				}
				requireCorrupt(t, err, s, digest)
				require.False(t, d.has(t, digest.key()), at)
				require.Equal(t, object, d.object(t, "corrupt/"+digest.key()), at)
			}
		}
		_, err = s.GetBlob(t.Context(), digest)
		require.ErrorIs(t, err, ErrNotFound)
		_, err = s.PutBlob(t.Context(), content)
		require.NoError(t, err)
		require.NoError(t, s.VerifyBlob(t.Context(), digest, int64(len(content))))
	}
}

func requireCorrupt(t testing.TB, err error, s *Store, d Digest) {
	t.Helper()
	require.ErrorIs(t, err, ErrCorrupt)
	var corrupt *CorruptError
	require.ErrorAs(t, err, &corrupt)
	require.Equal(t, d, corrupt.Digest)
	require.Equal(t, d.key(), corrupt.Key)
	require.Equal(t, s.String(), corrupt.Store)
	require.Equal(t, "corrupt/"+d.key(), corrupt.Quarantine)
	require.ErrorContains(t, err, fmt.Sprintf("corrupt object %q in store %q", d.key(), s.String()))
}

// Objects that are cut short, something else, or compressed in another way are as corrupt as a flipped bit.
func TestDamagedObjects(t *testing.T) {
	t.Parallel()
	content := append(noise(5000), make([]byte, 20_000)...)
	framed := pack(content)
	require.True(t, looksFramed(framed))
	gzip := append([]byte{0x1f, 0x8b, 8, 0}, framed[4:]...)
	for name, object := range map[string][]byte{
		"empty": {}, "half": framed[:len(framed)/2], "head": framed[:4], "one byte short": framed[:len(framed)-1], "one byte long": append(bytes.Clone(framed), 0),
		"twice": append(bytes.Clone(framed), framed...), "gzip": gzip, "another blob": pack(noise(3000)), "another frame": pack(make([]byte, 30_000)),
		"claims 4 GiB": []byte("\x28\xb5\x2f\xfd\xa0\xff\xff\xff\xff\x03\x00\x00"), "claims terabytes": []byte("\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\x7f\x00\x00\x03\x00\x00"),
	} {
		for way, read := range map[string]func(*Store, Digest) error{
			"whole":  func(s *Store, d Digest) error { _, err := s.GetBlob(t.Context(), d); return err },
			"stream": func(s *Store, d Digest) error { _, err := readBlob(t, s, d); return err },
			"entry": func(s *Store, d Digest) error {
				_, err := s.Content(t.Context(), Entry{Digest: d, Size: int64(len(content))})
				return err
			},
			"verify": func(s *Store, d Digest) error { return s.VerifyBlob(t.Context(), d, int64(len(content))) },
		} {
			d := newFaulty()
			s := uncached(d)
			digest := Sum(content)
			d.set(t, digest.key(), object)
			err := read(s, digest)
			require.Error(t, err, "%s, %s", name, way)
			requireCorrupt(t, err, s, digest)
		}
	}
}

// A healthy object stored another way than this version would store it is as good as any.
func TestOtherCompressionOfTheSameContent(t *testing.T) {
	t.Parallel()
	content := make([]byte, 20_000)
	d := newFaulty()
	s := uncached(d)
	digest := Sum(content)
	for _, object := range [][]byte{content, blockEncoder().EncodeAll(content, nil)} {
		d.set(t, digest.key(), object)
		got, err := s.GetBlob(t.Context(), digest)
		require.NoError(t, err)
		require.Equal(t, content, got)
		got, err = readBlob(t, s, digest)
		require.NoError(t, err)
		require.Equal(t, content, got)
	}
}

// What was damaged on the way only is read again and not moved.
func TestDamageOnTheWay(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	s := uncached(d)
	content := noise(5000)
	digest, err := s.PutBlob(t.Context(), content)
	require.NoError(t, err)
	reads := 0
	d.cut = func(string, int64) (int64, error) {
		if reads++; reads%2 == 1 {
			return 100, io.EOF
		}
		return 0, nil
	}
	got, err := s.GetBlob(t.Context(), digest)
	require.NoError(t, err)
	require.Equal(t, content, got)
	_, err = readBlob(t, s, digest)
	require.ErrorIs(t, err, ErrCorrupt, "a stream has handed out what it read")
	require.ErrorContains(t, err, "a second read found it undamaged")
	require.True(t, d.has(t, digest.key()))
	d.cut = nil
	_, err = readBlob(t, s, digest)
	require.NoError(t, err)
}

func TestInlineContentIsVerified(t *testing.T) {
	t.Parallel()
	s := uncached(newFaulty())
	e, content := encoded(t, map[string]int{"a": 1})
	e.Inline = content
	got, err := s.Content(t.Context(), e)
	require.NoError(t, err)
	got[0]++ // the caller's own
	for i := range content {
		for bit := range 8 {
			damaged := e
			damaged.Inline = bytes.Clone(content)
			damaged.Inline[i] ^= 1 << bit
			_, err := s.Content(t.Context(), damaged)
			require.ErrorIs(t, err, ErrCorrupt)
			require.ErrorContains(t, err, "corrupt inline content: its content has digest sha256:")
		}
	}
	e.Inline = e.Inline[:3]
	_, err = s.Content(t.Context(), e)
	require.ErrorIs(t, err, ErrCorrupt)
	_, err = s.Content(t.Context(), Entry{Size: 5})
	require.ErrorContains(t, err, "zero digest (the artifact was never stored)")
}

// An entry that tells a wrong size does not make a sound blob count as damaged.
func TestWrongSizeInAnEntry(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	s := uncached(d)
	content := make([]byte, 100_000)
	digest, err := s.PutBlob(t.Context(), content)
	require.NoError(t, err)
	_, err = s.Content(t.Context(), Entry{Digest: digest, Size: 10})
	require.ErrorContains(t, err, "larger than it should be")
	require.True(t, d.has(t, digest.key()))
	require.ErrorContains(t, s.VerifyBlob(t.Context(), digest, 10), "has 100000 bytes, its entry says 10")
}

func TestVerifyBlob(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	s := New(d, Options{})
	content := noise(20_000)
	digest, err := s.PutBlob(t.Context(), content)
	require.NoError(t, err)
	require.NoError(t, s.VerifyBlob(t.Context(), digest, int64(len(content))))
	require.NoError(t, d.Driver.Delete(t.Context(), digest.key()))
	require.ErrorIs(t, s.VerifyBlob(t.Context(), digest, int64(len(content))), ErrNotFound, "the cache has it, the store has not")
	require.ErrorIs(t, s.VerifyBlob(t.Context(), digest, maxVerifyBytes+1), ErrNotFound)
	require.ErrorContains(t, s.VerifyBlob(t.Context(), digest, 1), fmt.Sprintf("verify blob in store %q", s.String()))
}

// Content that is there costs no write; from statBytes on it is not even sent.
func TestPutBlobOnce(t *testing.T) {
	t.Parallel()
	d := newFaulty()
	s := New(d, Options{})
	for _, n := range []int{100, statBytes} {
		d.reset()
		for range 3 {
			_, err := s.PutBlob(t.Context(), noise(n))
			require.NoError(t, err)
		}
		require.Len(t, d.blobs(), 1)
	}
	require.Equal(t, 1, d.called("put"))
	require.Equal(t, 3, d.called("stat"))
}

func TestCacheIsBoundedAndCoherent(t *testing.T) {
	t.Parallel()
	const limit = 100_000
	d := newFaulty()
	s := New(d, Options{CacheBytes: limit})
	var digests []Digest
	for i := range 50 {
		digest, err := s.PutBlob(t.Context(), noise(5000+i))
		require.NoError(t, err)
		digests = append(digests, digest)
	}
	require.LessOrEqual(t, s.cache.size, int64(limit))
	require.Equal(t, len(s.cache.items), s.cache.order.Len())
	d.reset()
	_, err := s.GetBlob(t.Context(), digests[49])
	require.NoError(t, err)
	require.Zero(t, d.called("get"))
	_, err = s.GetBlob(t.Context(), digests[0])
	require.NoError(t, err)
	require.Equal(t, 1, d.called("get"), "the oldest went")
	big, err := s.PutBlob(t.Context(), noise(limit/2))
	require.NoError(t, err)
	_, ok := s.cache.get(big)
	require.False(t, ok, "what would push out much else is not kept")

	// The cache keeps its own copy of what it was given.
	mine := noise(3000)
	digest, err := s.PutBlob(t.Context(), mine)
	require.NoError(t, err)
	clear(mine)
	got, err := s.GetBlob(t.Context(), digest)
	require.NoError(t, err)
	require.Equal(t, digest, Sum(got))

	// A slice that is much larger than its content is not held on to.
	s.cache.put(Sum([]byte("x")), make([]byte, 1, 20_000), false)
	kept, ok := s.cache.get(Sum([]byte("x")))
	require.True(t, ok)
	require.Less(t, cap(kept), 100)

	var none *cache
	none.put(digest, mine, false)
	none.drop(digest)
	_, ok = none.get(digest)
	require.False(t, ok)

	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 200 {
				content := noise(1 + (i*j)%3000)
				s.cache.put(Sum(content), content, true)
				if got, ok := s.cache.get(Sum(content)); ok && !bytes.Equal(got, content) {
					panic("the cache mixed up its blobs")
				}
				s.cache.drop(Sum(noise(j)))
			}
		})
	}
	group.Wait()
	require.LessOrEqual(t, s.cache.size, int64(limit))
	var sum int64
	for _, e := range s.cache.items {
		sum += e.Value.(*cached).cost
	}
	require.Equal(t, sum, s.cache.size)
}

func TestDigest(t *testing.T) {
	t.Parallel()
	d := Sum([]byte("abc"))
	require.Equal(t, "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", d.String())
	require.Equal(t, "blobs/sha256/ba/"+strings.TrimPrefix(d.String(), "sha256:"), d.key())
	parsed, err := ParseDigest(d.String())
	require.NoError(t, err)
	require.Equal(t, d, parsed)
	require.True(t, Digest{}.IsZero())
	require.Empty(t, Digest{}.String())
	for _, bad := range []string{"", "sha256:", d.String()[1:], d.String() + "00", strings.ToUpper(d.String()), "sha256:" + strings.Repeat("g", 64), "md5:" + strings.Repeat("0", 64)} {
		_, err := ParseDigest(bad)
		require.ErrorContains(t, err, "malformed digest", bad)
	}
	require.NoError(t, d.UnmarshalText(nil))
	require.True(t, d.IsZero())
	before := parsed
	require.Error(t, parsed.UnmarshalText([]byte("nonsense")))
	require.Equal(t, before, parsed)
}
