package artifacts

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// An object is the stored form of a blob: the content itself, or one zstd frame when that saves at least a tenth. Content that
// begins like a zstd frame is always framed, so the first bytes of an object tell its form.

// minCompress is the smallest content worth the try.
const minCompress = 512

const (
	// maxDecodedBytes is the most that one compressed object is decoded to in memory.
	maxDecodedBytes = 4 << 30
	// trustedBytes is the largest size in the head of a frame that is believed, so allocated, before any content was decoded.
	trustedBytes = MaxFieldBytes
	// maxWindowBytes bounds the memory for decoding a stream.
	maxWindowBytes = 64 << 20
)

var zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}

func looksFramed(b []byte) bool { return bytes.HasPrefix(b, zstdMagic) }

var blockEncoder = sync.OnceValue(func() *zstd.Encoder {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderCRC(false), zstd.WithEncoderConcurrency(2))
	if err != nil {
		panic(err) // only for options that contradict each other
	}
	return e
})

var blockDecoder = sync.OnceValue(func() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err)
	}
	return d
})

// saves says whether framed bytes are at least a tenth fewer than raw ones.
func saves(framed, raw int64) bool { return framed <= raw/10*9 }

// pack returns the object for content. It may return content itself.
func pack(content []byte) []byte {
	must := looksFramed(content)
	if len(content) < minCompress && !must {
		return content
	}
	framed := blockEncoder().EncodeAll(content, make([]byte, 0, len(content)/2+64))
	if must || saves(int64(len(framed)), int64(len(content))) {
		return framed
	}
	return content
}

// errLonger says that a frame holds more than the caller wants to have in memory.
var errLonger = errors.New("it is larger than it should be")

// unpack is the inverse of pack. It may return object itself. Of a frame it decodes no more than limit bytes.
func unpack(object []byte, limit int64) ([]byte, error) {
	if !looksFramed(object) {
		return object, nil
	}
	var head zstd.Header
	if err := head.Decode(object); err != nil {
		return nil, damaged(err)
	}
	switch size := head.FrameContentSize; {
	case head.HasFCS && size > uint64(limit):
		return nil, errLonger
	case head.HasFCS && size <= trustedBytes:
		content, err := blockDecoder().DecodeAll(object, make([]byte, 0, size))
		if err != nil {
			return nil, damaged(err)
		}
		return content, nil
	}
	r, err := unpackReader(bytes.NewReader(object))
	if err != nil {
		return nil, damaged(err)
	}
	defer r.Close()
	content, err := readAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, damaged(err)
	}
	if int64(len(content)) > limit {
		return nil, errLonger
	}
	return content, nil
}

func damaged(err error) error { return fmt.Errorf("damaged compression: %w", err) }

// unpackReader is unpack for a stream. Closing it does not close r.
func unpackReader(r io.Reader) (io.ReadCloser, error) {
	head := make([]byte, len(zstdMagic))
	n, err := io.ReadFull(r, head)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), r)
	if !looksFramed(head[:n]) {
		return io.NopCloser(whole), nil
	}
	d, err := zstd.NewReader(whole, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindowBytes))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
