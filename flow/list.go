package flow

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"

	"github.com/stepwell-flows/stepwell/artifacts"
)

// List is the reference to a foreach's items, which were written down before any of them runs.
type List struct {
	// Len is the number of items.
	Len int `json:"len"`
	// Digest is of the blob that says where the items are. It is zero for an empty list.
	Digest artifacts.Digest `json:"digest,omitzero"`
}

// listDoc is the blob behind a list. Items are in chunks, so that one item can be read without the others.
type listDoc struct {
	Len    int         `json:"len"`
	Codec  string      `json:"codec"`
	Type   string      `json:"type"`
	Chunks []listChunk `json:"chunks"`
}

// listChunk is some items, each with its length before it: in a blob of its own, or right here if the list has one chunk.
type listChunk struct {
	First  int              `json:"first"`
	Digest artifacts.Digest `json:"digest,omitzero"`
	Items  []byte           `json:"items,omitempty"`
}

const (
	chunkItems = 1000
	chunkBytes = 256 << 10
	// MaxItems is how many items a foreach may have.
	MaxItems = 10_000_000
)

// writeList writes items as they come and returns where they are.
func writeList(ctx context.Context, store *artifacts.Store, name string, items iter.Seq2[any, error]) (List, error) {
	var (
		doc   listDoc
		chunk []byte
		inIt  int
	)
	flush := func() error {
		if inIt == 0 {
			return nil
		}
		d, err := store.PutBlob(ctx, chunk)
		if err != nil {
			return fmt.Errorf("write items of foreach %q: %w", name, err)
		}
		doc.Chunks = append(doc.Chunks, listChunk{First: doc.Len - inIt, Digest: d})
		chunk, inIt = chunk[:0:0], 0 // the store may have kept the old one
		return nil
	}
	for item, err := range items {
		if err != nil {
			return List{}, fmt.Errorf("items of foreach %q: %w", name, err)
		}
		e, content, err := artifacts.Encode(item)
		if err != nil {
			return List{}, fmt.Errorf("item %d of foreach %q: %w", doc.Len, name, err)
		}
		if inIt == chunkItems || inIt > 0 && len(chunk)+len(content) > chunkBytes {
			if err := flush(); err != nil {
				return List{}, err
			}
		}
		if doc.Len == MaxItems {
			return List{}, fmt.Errorf("foreach %q has more than %d items (split it into foreach shapes within each other)", name, MaxItems)
		}
		doc.Codec, doc.Type = e.Codec, e.Type
		chunk = append(binary.AppendUvarint(chunk, uint64(len(content))), content...)
		doc.Len++
		inIt++
	}
	if doc.Len == 0 {
		return List{}, nil
	}
	if len(doc.Chunks) == 0 {
		doc.Chunks = []listChunk{{Items: chunk}}
	} else if err := flush(); err != nil {
		return List{}, err
	}
	b, err := json.Marshal(doc)
	if err != nil {
		return List{}, err
	}
	d, err := store.PutBlob(ctx, b)
	if err != nil {
		return List{}, fmt.Errorf("write items of foreach %q: %w", name, err)
	}
	return List{Len: doc.Len, Digest: d}, nil
}

// Items reads the items of a list. It is safe for concurrent use.
type Items struct {
	store *artifacts.Store
	doc   listDoc
}

// OpenItems reads where a list's items are.
func OpenItems(ctx context.Context, store *artifacts.Store, l List) (*Items, error) {
	if l.Len == 0 {
		return &Items{store: store}, nil
	}
	b, err := store.GetBlob(ctx, l.Digest)
	if err != nil {
		return nil, fmt.Errorf("list of items: %w", err)
	}
	it := &Items{store: store}
	if err := json.Unmarshal(b, &it.doc); err != nil || it.doc.Len != l.Len || len(it.doc.Chunks) == 0 {
		return nil, fmt.Errorf("list of items %s is not a list of %d items", l.Digest, l.Len)
	}
	return it, nil
}

// Len is the number of items.
func (it *Items) Len() int { return it.doc.Len }

// load decodes item i into the value that into points to.
func (it *Items) load(ctx context.Context, i int, into any) error {
	if i < 0 || i >= it.doc.Len {
		return fmt.Errorf("item %d of a list of %d", i, it.doc.Len)
	}
	at := 0
	for n := len(it.doc.Chunks); n > 1; { // the last chunk that does not begin after i
		half := n / 2
		if it.doc.Chunks[at+half].First <= i {
			at += half
			n -= half
		} else {
			n = half
		}
	}
	c := it.doc.Chunks[at]
	b := c.Items
	if b == nil {
		var err error
		if b, err = it.store.GetBlob(ctx, c.Digest); err != nil {
			return fmt.Errorf("item %d: %w", i, err)
		}
	}
	for skip := i - c.First; ; skip-- {
		n, used := binary.Uvarint(b)
		if used <= 0 || n > uint64(len(b)-used) {
			return fmt.Errorf("item %d: %w: its chunk ends before it", i, artifacts.ErrCorrupt)
		}
		if skip == 0 {
			b = b[used : used+int(n)]
			break
		}
		b = b[used+int(n):]
	}
	e := artifacts.Entry{Size: int64(len(b)), Codec: it.doc.Codec, Type: it.doc.Type}
	if err := artifacts.Decode(e, b, into); err != nil {
		return fmt.Errorf("item %d: %w", i, err)
	}
	return nil
}
