// Command cut makes flights.csv.gz from the npm package vega-datasets: it takes flights-20k.json out of the package's tarball, keeps
// the columns the example uses, in their original order of rows, and writes them as gzip-compressed CSV.
//
//	npm pack vega-datasets@3.2.1
//	go run ./examples/flightdelay/data/cut vega-datasets-3.2.1.tgz examples/flightdelay/data/flights.csv.gz
//
// The output depends on the input alone: the gzip header carries neither a name nor a time.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// member is the file inside the npm tarball.
const member = "package/data/flights-20k.json"

// flight is one row of the source, with the columns the example uses.
type flight struct {
	Date        string `json:"date"`
	Delay       int    `json:"delay"`
	Distance    int    `json:"distance"`
	Origin      string `json:"origin"`
	Destination string `json:"destination"`
}

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: cut vega-datasets-3.2.1.tgz flights.csv.gz")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "cut:", err)
		os.Exit(1)
	}
}

func run(tarball, out string) error {
	f, err := os.Open(tarball)
	if err != nil {
		return err
	}
	defer f.Close()
	var b bytes.Buffer
	if err := cut(f, &b); err != nil {
		return fmt.Errorf("cut %q: %w", tarball, err)
	}
	return os.WriteFile(out, b.Bytes(), 0o644)
}

// cut reads an npm tarball and writes the compressed CSV.
func cut(tarball io.Reader, w io.Writer) error {
	gz, err := gzip.NewReader(tarball)
	if err != nil {
		return err
	}
	archive := tar.NewReader(gz)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("no %q in the tarball (is it the package vega-datasets?)", member)
		}
		if err != nil {
			return err
		}
		if h.Name != member {
			continue
		}
		var flights []flight
		if err := json.NewDecoder(archive).Decode(&flights); err != nil {
			return fmt.Errorf("read %q: %w", member, err)
		}
		return write(w, flights)
	}
}

func write(w io.Writer, flights []flight) error {
	gz, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	rows := csv.NewWriter(gz)
	if err := rows.Write([]string{"date", "delay", "distance", "origin", "destination"}); err != nil {
		return err
	}
	for _, f := range flights {
		row := []string{f.Date, strconv.Itoa(f.Delay), strconv.Itoa(f.Distance), f.Origin, f.Destination}
		if err := rows.Write(row); err != nil {
			return err
		}
	}
	rows.Flush()
	return errors.Join(rows.Error(), gz.Close())
}
