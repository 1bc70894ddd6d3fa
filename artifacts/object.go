package artifacts

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// An object is the stored form of a blob: the content itself, or one zstd frame when that saves at least a tenth. Content that
// begins like a zstd frame is always framed, so the first bytes of an object tell its form.

// minCompress is the smallest content worth the try.
const minCompress = 512

// maxDecodedBytes bounds what a damaged frame can make the decoder allocate.
const maxDecodedBytes = 4 << 30

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
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxDecodedBytes))
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

// unpack is the inverse of pack.
func unpack(object []byte) ([]byte, error) {
	if !looksFramed(object) {
		return object, nil
	}
	content, err := blockDecoder().DecodeAll(object, nil)
	if err != nil {
		return nil, fmt.Errorf("damaged compression: %w", err)
	}
	return content, nil
}

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
	d, err := zstd.NewReader(whole, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(64<<20))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
