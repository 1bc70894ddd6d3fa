// Package artifacts keeps what the steps of a flow produce: content-addressed blobs and small documents in a [Store], and the mapping
// of a state struct to them.
//
// # Use
//
// An author of a flow needs two types of this package, for fields of the state that are too large to be loaded for every step:
//
//	type State struct {
//		Alpha float64 `param:"alpha"`                // a parameter: set when the run starts, read-only
//		Rows  []Row                                  // loaded for every step
//		Table artifacts.Ref[Table] `flow:"features"` // loaded when a step calls Load
//		Model artifacts.File                         // streams between disk and store
//		cache map[string]int                         // unexported: never leaves the process
//	}
//
// A service that reads results opens the [Store] of the runs with [Open] and asks package runs. The rest is for the programs that run
// flows: [SchemaOf] finds the fields of a state, [Schema.Load] fills it from the entries of a record, [Schema.Save] makes the next ones.
//
// # Fields
//
// Each exported field is one artifact; [Field] tells the tags. The fields of an embedded struct count as the state's own. SchemaOf
// refuses, all at once, what could not come back as it was: functions, channels, unsafe pointers, interfaces without a codec, a Ref or
// File inside another value, a struct with nothing but unexported fields, map keys with pointers inside, a struct
// that got its MarshalBinary from an embedded field.
//
// # Layout
//
//	blobs/sha256/ab/abcdef…   content, found by the digest of its encoded form, shared by all flows and runs
//	flows/…                   documents: the records of runs, see package records
//	corrupt/blobs/…           damaged objects, moved out of the way
//
// An artifact of up to [MaxInlineBytes] lives in the [Entry] itself, that is in the record of its task. A larger one is a blob: its
// encoded bytes, or one zstd frame of them if that saves at least a tenth. Content that is there is not written again, and an artifact
// that a step left as it was keeps its entry and costs nothing.
//
// # Encodings
//
// The name of the encoding is stored beside the digest, so content can be read without the Go type, and by other programs:
//
//	Go type                                        name                  content
//	string                                         string                the bytes
//	[]byte                                         bytes                 the bytes
//	[]int8 … []uint64, []float32, []float64        int8s … float64s      the elements, little endian; []int as int64s, []uint as uint64s
//	encoding.BinaryMarshaler and -Unmarshaler      binary                what MarshalBinary returns
//	struct with unexported fields and a text form  text                  what MarshalText returns
//	type of RegisterCodec                          as registered         what its function returns
//	File                                           file                  the file
//	everything else, and nil                       cbor                  see below
//
// CBOR (RFC 8949) is written in the core deterministic encoding: equal values have equal bytes, whatever the order of a map. NaN, Inf,
// -0, nil against empty, the offset of a time and bytes that are not UTF-8 survive. A struct is a map by the names of its fields, so a
// field may be added, removed or moved, and a number may become a wider one; fields that the type no longer has are skipped.
// Two things are not kept: which NaN it was (outside of []float32 and []float64), and the name of a time's zone and its monotonic clock.
//
// # Limits
//
//	encoded plain field or content of a Ref   64 MiB (MaxFieldBytes); Save returns a *TooLargeError and has written nothing
//	File                                      what the store takes; the memory for it does not depend on its size
//	nesting of a value                        1000 levels, which is also how a cyclic value ends
//	decoding                                  a budget of 256 MiB plus 96 bytes for each byte of content
//	compressed blob read into memory          4 GiB
//	name of a field                           100 bytes
//
// # Concurrency
//
// A Store is safe for concurrent use by goroutines and processes, and so is a Schema. A state belongs to one task. The methods of
// [Ref] and [File] that read may be called concurrently, Set and SetPath may not.
//
// # Errors
//
//	ErrNotFound     the store does not have it
//	ErrExists       a document is there already
//	ErrUnavailable  the store does not answer; Options.Patience waits it out, reads go on where they stopped
//	ErrCorrupt      the content does not have its digest; *CorruptError names object and store. Every read verifies it. The damaged
//	                object is moved away, so that running the step that made it again heals the store
//	ErrTooLarge     see Limits
package artifacts
