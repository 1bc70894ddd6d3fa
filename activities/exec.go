package activities

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stepwell-flows/stepwell/artifacts"
	"github.com/stepwell-flows/stepwell/flow"
	"github.com/stepwell-flows/stepwell/isolate"
	"github.com/stepwell-flows/stepwell/policies"
)

// program is a command that is about to run, with a directory of its own: base has the directories in, out and, unless the command
// names one, work.
type program struct {
	t     *attempt
	c     flow.Command
	state any
	base  string
	name  string // for people
}

// exec runs the program of a step and sets what it has written.
func (t *attempt) exec(ctx context.Context, state any) (o outcome) {
	p := &program{t: t, c: t.def.Command(state), state: state}
	if err := t.flow.CheckCommand(t.in.Step, p.c); err != nil {
		return outcome{err: policies.WithClass(err, policies.Permanent)}
	}
	p.name = strings.Join(p.c.Args[:min(len(p.c.Args), 2)], " ")
	base, err := isolate.TempDir()
	if err != nil {
		return outcome{err: fmt.Errorf("make a directory for the program: %w", err)}
	}
	p.base = base
	if o = p.run(ctx); o.err != nil {
		_ = os.RemoveAll(base)
		return o
	}
	o.leftovers = []string{base} // a file of its output is read when the state is saved
	return o
}

func (p *program) run(ctx context.Context) outcome {
	for _, dir := range []string{"in", "out"} {
		if err := os.Mkdir(filepath.Join(p.base, dir), 0o700); err != nil {
			return outcome{err: err}
		}
	}
	dir, err := p.workDir()
	if err != nil {
		return outcome{err: err}
	}
	if err := p.give(ctx); err != nil {
		return outcome{err: err}
	}
	command, done, err := p.command(dir)
	if err != nil {
		return outcome{err: err}
	}
	defer done()
	process, err := isolate.Start(command)
	if err != nil {
		return outcome{err: startFailure(err)}
	}
	process.Stdout.Each(func(line string) { p.t.printed("stdout", line) })
	process.Stderr.Each(func(line string) { p.t.printed("stderr", line) })
	exit, stopped := await(ctx, process)
	o := outcome{usage: usageOf(exit)}
	switch {
	case stopped && exit.Memory == 0:
		o.err = context.Cause(ctx)
	case exit.Memory == 0 && stoppedWith(stopping(ctx), exit):
		o.err = errStopped()
	case exit.Code != 0 || exit.Memory > 0:
		o.err = p.failed(exit, command.Memory, process.Stderr.Tail(crashBytes))
	default:
		o.err = p.fetch()
	}
	return o
}

// failed is the failure of the program's end. What the author has said of an exit code counts more than what was printed.
func (p *program) failed(e isolate.Exit, limit int64, stderr string) *policies.Failure {
	f := exitFailure(p.name, e, limit, stderr, p.c.ExitClass)
	if class, ok := p.c.ExitCodes[e.Code]; ok && e.Signal == 0 && e.Memory == 0 {
		f.Class = class
	}
	return f
}

// await waits for a program. When the context ends first it is asked to stop, and killed after a grace.
func await(ctx context.Context, p *isolate.Process) (e isolate.Exit, stopped bool) {
	exit := make(chan isolate.Exit, 1)
	go func() { exit <- p.Wait() }()
	select {
	case e = <-exit:
		return e, false
	case <-ctx.Done():
	}
	p.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case e = <-exit:
	case <-timer.C:
		p.Kill()
		e = <-exit
	}
	return e, e.Code != 0
}

// workDir is the working directory of the program.
func (p *program) workDir() (string, error) {
	switch l := p.t.isolated; {
	case p.c.Dir != "":
		return p.c.Dir, nil
	case p.c.Files == nil && l != nil && l.Dir != "":
		return l.Dir, nil
	case p.c.Files == nil && l == nil:
		return "", nil
	}
	dir := filepath.Join(p.base, "work")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	if p.c.Files != nil {
		if err := os.CopyFS(dir, p.c.Files); err != nil {
			return "", fmt.Errorf("copy the program's files: %w", err)
		}
		if own := p.c.Args[0]; strings.Contains(own, "/") && filepath.IsLocal(own) { // files from an embed.FS may not be executed
			own = filepath.Join(dir, own)
			if st, err := os.Lstat(own); err == nil && st.Mode().IsRegular() {
				if err := os.Chmod(own, st.Mode().Perm()|0o100); err != nil {
					return "", err
				}
			}
		}
	}
	return dir, nil
}

// command is what is to be started. Done is called when it has ended.
func (p *program) command(dir string) (c isolate.Command, done func(), err error) {
	info := p.t.info()
	env := append(append(os.Environ(), environment(p.t.isolated)...), p.c.Env...)
	p.t.secrets().environ(env)
	env = append(env,
		"STEPWELL_IN="+filepath.Join(p.base, "in"), "STEPWELL_OUT="+filepath.Join(p.base, "out"),
		"STEPWELL_FLOW="+info.Flow, "STEPWELL_RUN="+info.Run, "STEPWELL_STEP="+info.Step, "STEPWELL_TASK="+info.Task,
		"STEPWELL_ATTEMPT="+strconv.Itoa(info.Attempt), "STEPWELL_IDEMPOTENCY_KEY="+flow.IdempotencyKey(flow.NewContext(context.Background(), flow.Runtime{Info: info})),
	)
	if parent := p.t.parent(); parent != "" {
		env = append(env, "TRACEPARENT="+parent)
	}
	path, err := isolate.Find(p.c.Args[0], env, dir)
	if err != nil {
		return c, nil, startFailure(err)
	}
	c = isolate.Command{Path: path, Args: p.c.Args, Env: env, Dir: dir}
	if l := p.t.isolated; l != nil {
		c.Memory, c.CPU = l.Memory, l.CPU
	}
	done = func() {}
	if len(p.c.Stdin) > 0 {
		name := filepath.Join(p.base, "stdin")
		if err := os.WriteFile(name, p.c.Stdin, 0o600); err != nil {
			return c, nil, err
		}
		if c.Stdin, err = os.Open(name); err != nil {
			return c, nil, err
		}
		done = func() { c.Stdin.Close() }
	}
	return c, done, nil
}

// give writes the artifacts that the program gets.
func (p *program) give(ctx context.Context) error {
	var errs []error
	for _, name := range p.c.In {
		field, _ := p.t.flow.Schema().Field(name)
		if err := p.giveOne(ctx, field); err != nil {
			errs = append(errs, fmt.Errorf("give artifact %q to the program: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (p *program) giveOne(ctx context.Context, field artifacts.Field) error {
	path := filepath.Join(p.base, "in", fileName(field))
	v := field.Value(p.state)
	if file, ok := reflect.TypeAssert[*artifacts.File](v.Addr()); ok {
		return file.Save(ctx, path)
	}
	if field.Lazy() {
		loaded := v.Addr().MethodByName("Load").Call([]reflect.Value{reflect.ValueOf(ctx)})
		if err, ok := reflect.TypeAssert[error](loaded[1]); ok {
			return err
		}
		v = loaded[0]
	}
	if b, ok := rawBytes(v); ok {
		return os.WriteFile(path, b, 0o600)
	}
	b, err := json.Marshal(v.Interface())
	if err != nil {
		return err
	}
	return os.WriteFile(path, b, 0o600)
}

// rawBytes are those of a value that is written as it is.
func rawBytes(v reflect.Value) ([]byte, bool) {
	switch {
	case v.Kind() == reflect.String:
		return []byte(v.String()), true
	case isBytes(v.Type()):
		return v.Bytes(), true
	}
	return nil, false
}

func isBytes(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8
}

// content is the type of what a field holds.
func content(field artifacts.Field) reflect.Type {
	if field.Lazy() && field.Type != reflect.TypeFor[artifacts.File]() {
		set, _ := reflect.PointerTo(field.Type).MethodByName("Set")
		return set.Type.In(1)
	}
	return field.Type
}

// fileName is the name of the file of an artifact.
func fileName(field artifacts.Field) string {
	t := content(field)
	if t == reflect.TypeFor[artifacts.File]() || t.Kind() == reflect.String || isBytes(t) {
		return field.Name
	}
	return field.Name + ".json"
}

// OutputError says that a program did not write what it should, or something else.
type OutputError struct{ err error }

// Error tells all that is wrong.
func (e *OutputError) Error() string { return e.err.Error() }

// Unwrap is the errors of reading.
func (e *OutputError) Unwrap() error { return e.err }

// fetch sets the artifacts that the program has written: all, or none if one is wrong.
func (p *program) fetch() error {
	var errs []error
	var set []func()
	for _, name := range p.c.Out {
		field, _ := p.t.flow.Schema().Field(name)
		one, err := p.fetchOne(field)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("%s did not write artifact %q (write the file $STEPWELL_OUT/%s, or take the name out of Command.Out)", p.name, name, fileName(field)))
		case err != nil:
			errs = append(errs, fmt.Errorf("%s wrote artifact %q (%s) in a way that cannot be read: %s", p.name, name, content(field), err.Error())) // an EOF is no network's
		}
		set = append(set, one)
	}
	if err := errors.Join(errs...); err != nil {
		return &OutputError{err}
	}
	for _, one := range set {
		one()
	}
	return nil
}

// fetchOne reads an artifact and returns what sets it.
func (p *program) fetchOne(field artifacts.Field) (set func(), err error) {
	path := filepath.Join(p.base, "out", fileName(field))
	v := field.Value(p.state)
	if file, ok := reflect.TypeAssert[*artifacts.File](v.Addr()); ok {
		if st, err := os.Stat(path); err != nil {
			return nil, err
		} else if !st.Mode().IsRegular() {
			return nil, errors.New("it is no file")
		}
		return func() { file.SetPath(path) }, nil
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	value := reflect.New(content(field)).Elem()
	switch {
	case value.Kind() == reflect.String:
		value.SetString(string(b))
	case isBytes(value.Type()):
		value.SetBytes(b)
	default:
		if err := decodeJSON(b, value.Addr().Interface()); err != nil {
			return nil, err
		}
	}
	return func() {
		if field.Lazy() {
			v.Addr().MethodByName("Set").Call([]reflect.Value{value})
			return
		}
		v.Set(value)
	}, nil
}

// decodeJSON decodes one value and nothing after it.
func decodeJSON(b []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	if err := d.Decode(to); err != nil {
		if errors.Is(err, io.EOF) {
			return errors.New("it is empty")
		}
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is more than one value")
	}
	return nil
}
