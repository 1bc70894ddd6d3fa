package flightdelay

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	_ "embed"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

//go:embed data/flights.csv.gz
var builtIn []byte

// maxTableBytes bounds what a data file may unpack to.
const maxTableBytes = 256 << 20

// errBadData marks what is wrong with the data themselves: reading them again would not help.
var errBadData = errors.New("bad data")

// Table is a CSV file as it is: names of columns, and rows of text.
type Table struct {
	Columns []string
	Rows    [][]string
}

// readTable reads a CSV file, compressed with gzip or not; an empty path means the flights built into the program.
func readTable(path string) (Table, error) {
	if path == "" {
		return parseTable(bytes.NewReader(builtIn), maxTableBytes)
	}
	info, err := os.Stat(path)
	if err != nil {
		return Table{}, err
	}
	if info.IsDir() {
		return Table{}, fmt.Errorf("%w: it is a directory (give the path of a CSV file)", errBadData)
	}
	f, err := os.Open(path)
	if err != nil {
		return Table{}, err
	}
	defer f.Close()
	return parseTable(f, maxTableBytes)
}

func parseTable(r io.Reader, limit int) (Table, error) {
	buffered := bufio.NewReader(r)
	r = buffered
	if magic, _ := buffered.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		gz, err := gzip.NewReader(buffered)
		if err != nil {
			return Table{}, fmt.Errorf("%w: %w", errBadData, err)
		}
		r = gz
	}
	content, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	var corrupt flate.CorruptInputError
	switch {
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &corrupt):
		return Table{}, fmt.Errorf("%w: the compressed file is damaged: %w", errBadData, err)
	case err != nil:
		return Table{}, err
	case len(content) > limit:
		return Table{}, fmt.Errorf("%w: more than %d bytes of text", errBadData, limit)
	}
	content = bytes.TrimPrefix(content, []byte("\ufeff"))
	switch {
	case len(bytes.TrimSpace(content)) == 0:
		return Table{}, fmt.Errorf("%w: the file is empty", errBadData)
	case !utf8.Valid(content) || bytes.IndexByte(content, 0) >= 0:
		return Table{}, fmt.Errorf("%w: the file is not text (a CSV file in UTF-8 is needed, compressed with gzip or not)", errBadData)
	}
	rows, err := csv.NewReader(bytes.NewReader(content)).ReadAll()
	if err != nil {
		return Table{}, fmt.Errorf("%w: the file is not CSV: %w", errBadData, err)
	}
	t := Table{Columns: rows[0], Rows: rows[1:]}
	if len(t.Rows) == 0 {
		return Table{}, fmt.Errorf("%w: the file has a header and no rows", errBadData)
	}
	seen := map[string]bool{}
	for i, c := range t.Columns {
		c = strings.TrimSpace(c)
		t.Columns[i] = c
		if seen[c] {
			return Table{}, fmt.Errorf("%w: two columns are named %.40q", errBadData, c)
		}
		seen[c] = true
	}
	return t, nil
}
