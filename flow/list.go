package flow

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"sort"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/policies"
)

// List is the reference to a foreach's items, which were written down before any of them runs.
type List struct {
	// Len is the number of items.
	Len int `json:"len"`
	// Digest is of the blob that says where the items are. It is zero for an empty list.
	Digest artifacts.Digest `json:"digest,omitzero"`
}

// The blob behind a list is a line of JSON, the listHead. After it comes the list's only chunk, or a line for each chunk: the
// number of its first item and the digest of its blob. The lines have the same length, so that the chunk of an item is found
// without reading the others; a worker does that for every item.
//
// A chunk is numbers of 32 bits, little endian, and then the items one after the other: how many there are, and where each one
// ends, counted from where the first begins. An item is nil if the highest bit is set: numeric slices and some others have a codec
// that cannot say nil.
type listHead struct {
	Version int    `json:"version"`
	Len     int    `json:"len"`
	Codec   string `json:"codec,omitempty"` // of the items that are not nil
	Type    string `json:"type"`
	// Chunks is the number of chunks with a blob of their own, 0 if there is one chunk and it follows right here.
	Chunks int `json:"chunks,omitempty"`
}

const (
	listVersion = 1
	chunkItems  = 1000
	chunkBytes  = 256 << 10
	// chunkWrites is how many chunks are written at the same time.
	chunkWrites = 4
	// chunkReads is how many are looked at at the same time.
	chunkReads = 16
	// MaxItems is how many items a foreach may have.
	MaxItems = 10_000_000

	firstBytes = len("09999999")
	lineBytes  = firstBytes + len(" sha256:") + 64 + len("\n")
)

// nilCodec and nilContent are how a nil item is encoded whatever its type.
const (
	nilCodec, nilContent = "cbor", "\xf6"
	nilBit               = 1 << 31
)

// listWriter writes a list's items as they come.
type listWriter struct {
	head   listHead
	chunks []*listChunk
	first  int // item of the chunk
	ends   []uint32
	items  []byte
}

type listChunk struct {
	first  int
	digest artifacts.Digest
}

// writeList writes the items, pointers to them, of the foreach with that name and returns where they are. It fails if there are more
// than limit.
func writeList(ctx context.Context, store *artifacts.Store, name string, items iter.Seq2[any, error], limit int) (List, error) {
	w := listWriter{head: listHead{Version: listVersion}}
	writes, writing := errgroup.WithContext(ctx)
	writes.SetLimit(chunkWrites)
	defer func() { _ = writes.Wait() }() // the items may panic
	flush := func() {
		c, content := &listChunk{first: w.first}, w.chunk()
		w.chunks = append(w.chunks, c)
		w.first, w.ends, w.items = w.head.Len, w.ends[:0], w.items[:0]
		writes.Go(func() (err error) {
			c.digest, err = store.PutBlob(writing, content)
			return err
		})
	}
	unwritten := func(err error) error { return fmt.Errorf("write the items of foreach %q: %w", name, err) }
	for item, err := range items {
		if err != nil {
			return List{}, fmt.Errorf("items of foreach %q: %w", name, err)
		}
		if w.head.Len == limit {
			err := fmt.Errorf("foreach %q has more than %d items (put a foreach into another one)", name, limit)
			return List{}, policies.WithClass(err, policies.Permanent)
		}
		e, content, err := artifacts.Encode(item)
		if large, ok := errors.AsType[*artifacts.TooLargeError](err); ok {
			err = fmt.Errorf("it has %d bytes or more, the limit is %d (let items be keys of what they stand for)", large.Size, large.Limit)
		}
		if err != nil {
			return List{}, fmt.Errorf("item %d of foreach %q: %w", w.head.Len, name, err)
		}
		if n := len(w.ends); n == chunkItems || n > 0 && len(w.items)+len(content) > chunkBytes {
			flush()
			if err := writing.Err(); err != nil {
				return List{}, unwritten(cmp.Or(writes.Wait(), err))
			}
		}
		w.add(e, content)
	}
	if w.head.Len == 0 {
		return List{}, nil
	}
	if len(w.chunks) > 0 {
		flush()
	}
	if err := writes.Wait(); err != nil {
		return List{}, unwritten(err)
	}
	d, err := store.PutBlob(ctx, w.blob())
	if err != nil {
		return List{}, unwritten(err)
	}
	return List{Len: w.head.Len, Digest: d}, nil
}

func (w *listWriter) add(e artifacts.Entry, content []byte) {
	w.head.Len++
	w.head.Type = e.Type
	var flag uint32
	if e.Codec == nilCodec && string(content) == nilContent {
		flag, content = nilBit, nil
	} else {
		w.head.Codec = e.Codec
	}
	w.items = append(w.items, content...)
	w.ends = append(w.ends, uint32(len(w.items))|flag)
}

// chunk is the content of the chunk so far.
func (w *listWriter) chunk() []byte {
	b := make([]byte, 0, 4+4*len(w.ends)+len(w.items))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(w.ends)))
	for _, end := range w.ends {
		b = binary.LittleEndian.AppendUint32(b, end)
	}
	return append(b, w.items...)
}

// blob is the content of the list's blob.
func (w *listWriter) blob() []byte {
	w.head.Chunks = len(w.chunks)
	b, err := json.Marshal(w.head)
	if err != nil {
		panic(err) // strings and numbers
	}
	b = append(b, '\n')
	if len(w.chunks) == 0 {
		return append(b, w.chunk()...)
	}
	for _, c := range w.chunks {
		b = fmt.Appendf(b, "%0*d %s\n", firstBytes, c.first, c.digest)
	}
	return b
}

// Items reads the items of a list. It keeps no item in memory and is safe for concurrent use.
type Items struct {
	store *artifacts.Store
	head  listHead
	body  []byte // what comes after the head
}

// OpenItems reads where a list's items are, which costs little when the store has it in its cache.
func OpenItems(ctx context.Context, store *artifacts.Store, l List) (*Items, error) {
	it := &Items{store: store}
	if l.Len == 0 {
		return it, nil
	}
	b, err := store.GetBlob(ctx, l.Digest)
	if err != nil {
		return nil, fmt.Errorf("list of items: %w", err)
	}
	if err := it.parse(b); err != nil {
		return nil, fmt.Errorf("list of items %s: %w", l.Digest, err)
	}
	if it.head.Len != l.Len {
		return nil, fmt.Errorf("list of items %s has %d items, not %d", l.Digest, it.head.Len, l.Len)
	}
	return it, nil
}

// CheckItems looks whether the store has a list, whole, or fails with [artifacts.ErrNotFound] or [artifacts.ErrCorrupt]. Where the
// items are is one blob; the items, one for a thousand of them, are only looked at if all is set.
func CheckItems(ctx context.Context, store *artifacts.Store, l List, all bool) error {
	if l.Len == 0 {
		return nil
	}
	if err := store.VerifyBlob(ctx, l.Digest, -1); err != nil {
		return fmt.Errorf("list of items: %w", err)
	}
	it, err := OpenItems(ctx, store, l)
	if err != nil || !all {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(chunkReads)
	for n := range it.head.Chunks {
		c, err := it.line(n)
		if err != nil {
			return errors.Join(err, group.Wait())
		}
		group.Go(func() error { return store.VerifyBlob(ctx, c.digest, -1) })
	}
	return group.Wait()
}

func (it *Items) parse(b []byte) error {
	head, body, _ := bytes.Cut(b, []byte("\n"))
	err := json.Unmarshal(head, &it.head)
	switch h := it.head; {
	case err != nil:
		return fmt.Errorf("it is no list: %w", err)
	case h.Version > listVersion:
		return fmt.Errorf("it has version %d, this program knows %d (upgrade this program)", h.Version, listVersion)
	case h.Version < 1 || h.Len < 1 || h.Len > MaxItems || h.Chunks < 0 || h.Chunks > h.Len || h.Chunks > 0 && len(body) != h.Chunks*lineBytes:
		return errors.New("it is no list")
	}
	it.body = body
	return nil
}

// Len is the number of items.
func (it *Items) Len() int { return it.head.Len }

// load decodes item i into the value that into points to.
func (it *Items) load(ctx context.Context, i int, into any) error {
	if i < 0 || i >= it.head.Len {
		return fmt.Errorf("item %d of a list of %d", i, it.head.Len)
	}
	e, content, err := it.content(ctx, i)
	if err == nil {
		err = artifacts.Decode(e, content, into)
	}
	if err != nil {
		return fmt.Errorf("item %d: %w", i, err)
	}
	return nil
}

// content is item i as it is encoded.
func (it *Items) content(ctx context.Context, i int) (artifacts.Entry, []byte, error) {
	chunk, first := it.body, 0
	if it.head.Chunks > 0 {
		c, err := it.find(i)
		if err == nil {
			chunk, err = it.store.GetBlob(ctx, c.digest)
		}
		if err != nil {
			return artifacts.Entry{}, nil, err
		}
		first = c.first
	}
	return it.item(chunk, i-first)
}

// find returns the chunk of an item: the last one that does not begin after it.
func (it *Items) find(i int) (listChunk, error) {
	n := sort.Search(it.head.Chunks, func(n int) bool { return it.first(n) > i }) - 1
	return it.line(max(n, 0))
}

// first is the number of the first item of chunk n.
func (it *Items) first(n int) int {
	k, err := strconv.Atoi(string(it.body[n*lineBytes:][:firstBytes]))
	if err != nil {
		return -1
	}
	return k
}

// line returns chunk n.
func (it *Items) line(n int) (listChunk, error) {
	d, err := artifacts.ParseDigest(string(it.body[n*lineBytes:][firstBytes+1 : lineBytes-1]))
	return listChunk{it.first(n), d}, err
}

var errNoItem = fmt.Errorf("its chunk does not have it: %w", artifacts.ErrCorrupt)

// item returns item i of a chunk.
func (it *Items) item(chunk []byte, i int) (artifacts.Entry, []byte, error) {
	number := func(k int) uint32 { return binary.LittleEndian.Uint32(chunk[4*k:]) }
	if len(chunk) < 4 || i < 0 || int64(i) >= int64(number(0)) || int64(len(chunk)/4) <= int64(number(0)) {
		return artifacts.Entry{}, nil, errNoItem
	}
	items := chunk[4+4*number(0):]
	begin, end := uint32(0), number(1+i)
	if i > 0 {
		begin = number(i) &^ nilBit
	}
	switch {
	case end&nilBit != 0:
		return artifacts.Entry{Size: int64(len(nilContent)), Codec: nilCodec, Type: it.head.Type}, []byte(nilContent), nil
	case begin > end || int64(end) > int64(len(items)):
		return artifacts.Entry{}, nil, errNoItem
	}
	return artifacts.Entry{Size: int64(end - begin), Codec: it.head.Codec, Type: it.head.Type}, items[begin:end], nil
}
