package artifacts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"

	"golang.org/x/sync/errgroup"
)

// parallel is how many blobs one state reads or writes at the same time.
const parallel = 8

// Snapshot remembers the parameters of a state, so that Save can tell whether a step changed one. The zero Snapshot remembers
// nothing.
type Snapshot struct {
	params map[string]Digest
}

// Snapshot returns the digests of state's parameters. State is a pointer to the schema's struct.
func (s *Schema) Snapshot(state any) (Snapshot, error) {
	v, err := s.value(state)
	if err != nil {
		return Snapshot{}, err
	}
	snap := Snapshot{params: map[string]Digest{}}
	var errs []error
	for i := range s.fields {
		f := &s.fields[i]
		if !f.Param {
			continue
		}
		e, _, err := f.encode(v)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		snap.params[f.Name] = e.Digest
	}
	return snap, errors.Join(errs...)
}

// Load fills state, a pointer to the schema's struct, from the entries of a record. Plain fields are decoded; a Ref or File is bound
// to its entry and loads nothing. A field without an entry keeps its value, an entry without a field is ignored. An error names the
// artifact and its type; the state is then partly filled and must not be used.
func (s *Schema) Load(ctx context.Context, store *Store, entries map[string]Entry, state any) error {
	return s.load(store, entries, state, func(_ int, e Entry) ([]byte, error) { return store.Content(ctx, e) })
}

// load is Load with another source of contents. Content gets the index of the field.
func (s *Schema) load(store *Store, entries map[string]Entry, state any, content func(i int, e Entry) ([]byte, error)) error {
	v, err := s.value(state)
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	errs := make([]error, len(s.fields))
	for i := range s.fields {
		f := &s.fields[i]
		e, ok := entries[f.Name]
		if !ok {
			continue
		}
		to := v.FieldByIndex(f.index)
		if f.kind == fileField && e.Codec != fileCodec {
			errs[i] = typeError{fmt.Errorf("load artifact %q (%s): stored as %s with codec %q, which is not a file (give the field its old type, or another name)",
				f.Name, f.Type, e.Type, e.Codec)}
			continue
		}
		if f.Lazy() {
			to.Addr().Interface().(lazyField).bind(store, e)
			continue
		}
		if !e.remote() {
			b, err := content(i, e)
			errs[i] = f.fill(e, to, b, err)
			continue
		}
		away := e // a copy for the goroutine: the others need no memory of their own
		group.Go(func() error {
			b, err := content(i, away)
			errs[i] = f.fill(away, to, b, err)
			return nil
		})
	}
	_ = group.Wait()
	return errors.Join(errs...)
}

// fill decodes the content of the field's entry into the field, unless reading it has failed.
func (f *Field) fill(e Entry, to reflect.Value, content []byte, err error) error {
	if err == nil {
		if err = f.codec.decodeEntry(e, content, to); err != nil {
			err = typeError{err}
		}
	}
	if err != nil {
		return fmt.Errorf("load artifact %q (%s): %w", f.Name, f.Type, err)
	}
	return nil
}

// Save encodes every field of state, a pointer to the schema's struct, and writes what is not yet in the store. It returns the
// entries of the new record and the names of the artifacts that changed against prev, the entries that the state was loaded from, in
// the order of the struct. An unchanged artifact keeps its entry and costs no write; an entry of prev without a field is kept, so
// that a worker with an older state type does not lose it. Changed entries name the task by.
//
// Save fails without having written anything if a parameter is not as in snap, or a field cannot be encoded or is too large (a
// *TooLargeError); the error joins all of them.
func (s *Schema) Save(ctx context.Context, store *Store, state any, prev map[string]Entry, snap Snapshot, by string) (entries map[string]Entry, changed []string, err error) {
	v, err := s.value(state)
	if err != nil {
		return nil, nil, err
	}
	saves := make([]save, len(s.fields))
	var errs []error
	for i := range s.fields {
		f := &s.fields[i]
		e, content, err := f.encode(v)
		if before, ok := snap.params[f.Name]; ok && err == nil && e.Digest != before {
			err = fmt.Errorf("parameter %q (field %s) was changed by the step (parameters are read-only: set another field)", f.Name, f.GoName)
		}
		saves[i] = save{entry: e, content: content}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, nil, err
	}
	if err := s.write(ctx, store, v, prev, saves); err != nil {
		return nil, nil, err
	}
	entries = make(map[string]Entry, max(len(prev), len(s.fields)))
	maps.Copy(entries, prev)
	for i := range s.fields {
		f := &s.fields[i]
		e := saves[i].entry
		old, had := prev[f.Name]
		switch {
		case e.Codec == "": // an empty Ref or File
			delete(entries, f.Name)
			if had {
				changed = append(changed, f.Name)
			}
			continue
		case had && old.Same(e):
			continue
		}
		if e.By == "" {
			e.By = by
		}
		entries[f.Name] = e
		changed = append(changed, f.Name)
	}
	return entries, changed, nil
}

// save is what one field has to write.
type save struct {
	entry   Entry
	content []byte
	stored  bool // nothing has to be written
}

// write stores the content of the changed fields, files included, and binds the lazy fields of the state v to what was stored.
func (s *Schema) write(ctx context.Context, store *Store, v reflect.Value, prev map[string]Entry, saves []save) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i := range s.fields {
		f, sv := &s.fields[i], &saves[i]
		old, ok := prev[f.Name]
		sv.stored = ok && old.Same(sv.entry) || sv.entry.Inline != nil || sv.entry.Size == 0 && f.kind != fileField
		var put func() error
		switch {
		case f.Lazy() && sv.entry.Codec != "":
			lazy := v.FieldByIndex(f.index).Addr().Interface().(lazyField)
			put = func() error { return f.putLazy(ctx, store, lazy, sv) }
		case !f.Lazy() && !sv.stored:
			put = func() error { return store.keep(ctx, sv.entry.Digest, sv.content) }
		default:
			continue
		}
		group.Go(func() error {
			if err := put(); err != nil {
				return fmt.Errorf("save artifact %q (%s): %w", f.Name, f.Type, err)
			}
			return nil
		})
	}
	return group.Wait()
}

func (f *Field) putLazy(ctx context.Context, store *Store, lazy lazyField, sv *save) (err error) {
	switch {
	case lazy.pending() && f.kind == fileField:
		return lazy.(*File).upload(ctx, store, &sv.entry)
	case sv.stored:
	case lazy.pending():
		err = store.keep(ctx, sv.entry.Digest, sv.content)
	case lazy.home() != store:
		err = store.adopt(ctx, lazy.home(), sv.entry.Digest)
	}
	if err == nil {
		lazy.bind(store, sv.entry)
	}
	return err
}

// Entry returns what a record would say of the field of state, a pointer to the schema's struct, if the state were saved now. Nothing
// is stored. An empty Ref or File has the zero Entry, a File that is not yet stored an entry without a digest.
func (f Field) Entry(state any) (Entry, error) {
	e, _, err := f.encode(reflect.ValueOf(state).Elem())
	return e, err
}

// encode returns the entry of the field in the state v, and its content unless the entry has it inline. A File that is not yet
// stored has an entry without a digest; an empty Ref or File has the zero entry.
func (f *Field) encode(v reflect.Value) (Entry, []byte, error) {
	from := v.FieldByIndex(f.index)
	if f.Lazy() {
		lazy := from.Addr().Interface().(lazyField)
		if !lazy.pending() {
			return lazy.entry(), nil, nil
		}
		if f.kind == fileField {
			return Entry{Codec: fileCodec}, nil, nil
		}
		from = lazy.value()
	}
	name, content, err := f.codec.encode(from)
	if err != nil {
		return Entry{}, nil, f.encodeError(err)
	}
	if len(content) > MaxFieldBytes {
		return Entry{}, nil, &TooLargeError{Artifact: f.Name, Type: f.Type.String(), Size: int64(len(content)), Limit: MaxFieldBytes}
	}
	e := Entry{Digest: Sum(content), Size: int64(len(content)), Codec: name, Type: f.codec.typeName}
	if len(content) <= MaxInlineBytes {
		e.Inline = bytes.Clone(content) // content may be the field's own memory
	}
	return e, content, nil
}

func (f *Field) encodeError(err error) error {
	if large, ok := errors.AsType[*TooLargeError](err); ok {
		return &TooLargeError{Artifact: f.Name, Type: f.Type.String(), Size: large.Size, AtLeast: true, Limit: MaxFieldBytes}
	}
	return fmt.Errorf("encode artifact %q (%s): %w", f.Name, f.Type, err)
}
