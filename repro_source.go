package stepwell

import (
	"bufio"
	"errors"
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// flowSource is an expression of Go code that is a flow.
type flowSource struct {
	// dir is the folder of the package, pkg its name and path what it is imported by.
	dir, pkg, path string
	// expr is the expression within the package: "Flow()" or "TrainFlow".
	expr string
}

// exported says that a test in another package can use it.
func (s flowSource) exported() bool { return s.pkg != "main" && ast.IsExported(s.expr) }

// String is the expression as --flow takes it.
func (s flowSource) String() string { return s.path + "." + s.expr }

// module finds the module that a folder is in: its own folder and path.
func module(dir string) (root, name string, _ error) {
	for at := dir; ; at = filepath.Dir(at) {
		f, err := os.Open(filepath.Join(at, "go.mod"))
		if errors.Is(err, fs.ErrNotExist) {
			if at == filepath.Dir(at) {
				return "", "", inputf("%q is in no Go module (run this in your own module, where the flow is)", dir)
			}
			continue
		}
		if err != nil {
			return "", "", err
		}
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "module "); ok {
				name = strings.TrimSpace(rest)
				if text, err := strconv.Unquote(name); err == nil {
					name = text
				}
				return at, name, nil
			}
		}
		return "", "", inputf("%s names no module", filepath.Join(at, "go.mod"))
	}
}

// findFlows looks through the packages of a module for functions without parameters, and variables, that are the flow with that name.
func findFlows(root, name, flowName string) ([]flowSource, error) {
	var found []flowSource
	err := filepath.WalkDir(root, func(dir string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		base := d.Name()
		if dir != root {
			if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "vendor" || base == "testdata" || base == "node_modules" {
				return fs.SkipDir
			}
			if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
				return fs.SkipDir // another module
			}
		}
		rel, err := filepath.Rel(root, dir)
		if err != nil {
			return err
		}
		pkg, exprs := flowsIn(dir, flowName)
		for _, expr := range exprs {
			found = append(found, flowSource{dir: dir, pkg: pkg, path: path.Join(name, filepath.ToSlash(rel)), expr: expr})
		}
		return nil
	})
	return found, err
}

// flowsIn looks through one package. A file that cannot be parsed is left out.
func flowsIn(dir, flowName string) (pkg string, exprs []string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil
	}
	var files []*ast.File
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			continue
		}
		f, err := parser.ParseFile(gotoken.NewFileSet(), e.Name(), b, parser.SkipObjectResolution)
		if err != nil {
			continue
		}
		files, pkg = append(files, f), f.Name.Name
	}
	p := flowPackage{name: flowName, consts: map[string]string{}, makers: map[string]bool{}}
	for _, f := range files {
		p.constants(f)
	}
	// Functions that make the flow, and those that call them.
	for n := -1; n != len(p.makers); {
		n = len(p.makers)
		for _, f := range files {
			p.functions(f)
		}
	}
	for _, f := range files {
		exprs = append(exprs, p.expressions(f)...)
	}
	return pkg, exprs
}

// flowPackage is what is known of a package that may make a flow.
type flowPackage struct {
	name   string
	consts map[string]string
	makers map[string]bool
}

// constants collects the package's constants that are texts.
func (p *flowPackage) constants(f *ast.File) {
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != gotoken.CONST {
			continue
		}
		for _, s := range g.Specs {
			v, ok := s.(*ast.ValueSpec)
			if !ok {
				continue
			}
			for i, name := range v.Names {
				if i < len(v.Values) {
					if lit, ok := v.Values[i].(*ast.BasicLit); ok && lit.Kind == gotoken.STRING {
						p.consts[name.Name], _ = strconv.Unquote(lit.Value)
					}
				}
			}
		}
	}
}

func (p *flowPackage) functions(f *ast.File) {
	for _, d := range f.Decls {
		if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Body != nil && isFlow(fn.Type) && p.makes(fn.Body) {
			p.makers[fn.Name.Name] = true
		}
	}
}

// isFlow says that a function returns a *flow.Flow and nothing else.
func isFlow(t *ast.FuncType) bool {
	if t.Results == nil || len(t.Results.List) != 1 || len(t.Results.List[0].Names) > 1 || t.TypeParams != nil {
		return false
	}
	star, ok := t.Results.List[0].Type.(*ast.StarExpr)
	if !ok {
		return false
	}
	switch of := star.X.(type) {
	case *ast.SelectorExpr:
		return of.Sel.Name == "Flow"
	case *ast.Ident:
		return of.Name == "Flow"
	}
	return false
}

// makes says that code calls flow.New with the flow's name, or a function of the package that does.
func (p *flowPackage) makes(code ast.Node) (yes bool) {
	ast.Inspect(code, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || yes {
			return !yes
		}
		switch fn := call.Fun.(type) {
		case *ast.Ident:
			yes = p.makers[fn.Name]
		case *ast.SelectorExpr:
			yes = fn.Sel.Name == "New" && len(call.Args) > 0 && p.text(call.Args[0]) == p.name
		}
		return !yes
	})
	return yes
}

// text is the value of an expression that is a text, "" if it is none.
func (p *flowPackage) text(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		s, _ := strconv.Unquote(e.Value)
		return s
	case *ast.Ident:
		return p.consts[e.Name]
	}
	return ""
}

// expressions are the flow in one file, as others can write it.
func (p *flowPackage) expressions(f *ast.File) []string {
	var out []string
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && p.makers[d.Name.Name] && d.Type.Params.NumFields() == 0 {
				out = append(out, d.Name.Name+"()")
			}
		case *ast.GenDecl:
			if d.Tok != gotoken.VAR {
				continue
			}
			for _, s := range d.Specs {
				v, ok := s.(*ast.ValueSpec)
				if !ok {
					continue
				}
				for i, name := range v.Names {
					if i < len(v.Values) && name.Name != "_" {
						if call, ok := v.Values[i].(*ast.CallExpr); ok && p.makes(call) {
							out = append(out, name.Name)
						}
					}
				}
			}
		}
	}
	return out
}

// chooseFlow finds the one expression that a test can use, best one in a package that it can import.
func chooseFlow(found []flowSource, flowName string) (flowSource, error) {
	importable := slices.DeleteFunc(slices.Clone(found), func(s flowSource) bool { return !s.exported() })
	for _, some := range [][]flowSource{importable, found} {
		switch {
		case len(some) == 1:
			return some[0], nil
		case len(some) > 1:
			var names []string
			for _, s := range some {
				names = append(names, s.String())
			}
			return flowSource{}, inputf("flow %q is made in several places (choose with --flow: %s)", flowName, strings.Join(names, ", "))
		}
	}
	return flowSource{}, inputf("no function of this module that takes nothing and returns flow %q was found (say where it is: --flow 'example.com/me/flows.Flow()')", flowName)
}

// parseFlow reads --flow: an expression behind the path of its package, or one alone, which is of the package in dir.
func parseFlow(text, dir string) (flowSource, error) {
	bad := inputf("--flow %q is not an expression of a package (write example.com/me/flows.Flow(), or Flow() for a test in the package itself)", text)
	slash := strings.LastIndex(text, "/")
	if paren := strings.Index(text, "("); paren >= 0 && paren < slash {
		slash = strings.LastIndex(text[:paren], "/")
	}
	s := flowSource{expr: text}
	if dot := strings.Index(text[slash+1:], "."); slash >= 0 {
		if dot < 1 {
			return s, bad
		}
		s.path, s.expr = text[:slash+1+dot], text[slash+dot+2:]
		s.pkg = path.Base(s.path)
	}
	if _, err := parser.ParseExpr(s.expr); err != nil || strings.ContainsAny(s.path, "\"`\\ \n") {
		return s, bad
	}
	if s.path != "" {
		return s, nil
	}
	s.dir = dir
	if s.pkg = packageIn(dir); s.pkg == "" {
		return s, inputf("%q has no Go files, so that %q is in no package (add --out with the folder of the package, or write its path before the expression)", dir, text)
	}
	return s, nil
}

// packageIn is the name of the package in a folder, "" if there is none.
func packageIn(dir string) string {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return ""
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if f, err := parser.ParseFile(gotoken.NewFileSet(), name, nil, parser.PackageClauseOnly); err == nil {
			return f.Name.Name
		}
	}
	return ""
}

// fileWord makes a name that is fine in file names and package names.
func fileWord(text string) string {
	return strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, text), "_")
}

// goWord makes a name that may follow others in a Go identifier.
func goWord(text string) string {
	var b strings.Builder
	up := true
	for _, r := range text {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		switch {
		case !letter:
			up = true
			continue
		case up:
			b.WriteString(strings.ToUpper(string(r)))
		default:
			b.WriteRune(r)
		}
		up = false
	}
	return b.String()
}
