package flightdelay

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lateAfter is the target's threshold in minutes: a flight that arrives this much or more behind its schedule counts
// as delayed, by the definition of the US Department of Transportation.
const lateAfter = 15

// dateLayout is how the data write a time; it is local to the airport of departure.
const dateLayout = "2006/01/02 15:04"

// Flights are the validated data, by column.
type Flights struct {
	// Departure is when the flight left the gate, in minutes since 1970, in the local time of its origin.
	Departure []int64
	// Delay is the delay at arrival in minutes, negative when early.
	Delay []int64
	// Distance is in miles.
	Distance []int64
	// Origin and Destination are airport codes.
	Origin, Destination []string
}

// BuiltIn returns the flights that are built into the program.
func BuiltIn() (Flights, error) {
	table, err := readTable("")
	if err != nil {
		return Flights{}, err
	}
	return parseFlights(table)
}

// Len is the number of flights.
func (f Flights) Len() int { return len(f.Delay) }

// Time is when flight i left.
func (f Flights) Time(i int) time.Time { return time.Unix(f.Departure[i]*60, 0).UTC() }

// Late says that flight i counts as delayed.
func (f Flights) Late(i int) bool { return f.Delay[i] >= lateAfter }

// column checks the values of one column and appends them to f.
type column struct {
	name string
	add  func(f *Flights, value string) error
}

var columns = []column{
	{"date", func(f *Flights, value string) error {
		t, err := time.Parse(dateLayout, value)
		if err != nil {
			return fmt.Errorf("%.40q is not a time like 2001/01/31 09:30", value)
		}
		f.Departure = append(f.Departure, t.Unix()/60)
		return nil
	}},
	{"delay", func(f *Flights, value string) error {
		return whole(&f.Delay, value, -24*60, 7*24*60, "minutes")
	}},
	{"distance", func(f *Flights, value string) error {
		return whole(&f.Distance, value, 1, 20_000, "miles")
	}},
	{"origin", func(f *Flights, value string) error { f.Origin = append(f.Origin, value); return nil }},
	{"destination", func(f *Flights, value string) error { f.Destination = append(f.Destination, value); return nil }},
}

func whole(to *[]int64, value string, low, high int64, unit string) error {
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return fmt.Errorf("%.40q is not a whole number of %s", value, unit)
	}
	if n < low || n > high {
		return fmt.Errorf("%d %s is out of range (%d to %d)", n, unit, low, high)
	}
	*to = append(*to, n)
	return nil
}

// parseFlights checks a table and reads it by column. Its error lists everything that is wrong: columns that are
// missing, and for each column how many values are empty or unreadable, and where the first ones are.
func parseFlights(t Table) (Flights, error) {
	var (
		f        Flights
		problems []string
	)
	for _, c := range columns {
		at := slices.Index(t.Columns, c.name)
		if at < 0 {
			problems = append(problems, fmt.Sprintf("column %q is missing", c.name))
			continue
		}
		var empty, bad found
		for i, row := range t.Rows {
			value := strings.TrimSpace(row[at])
			if null(value) {
				empty.at(i, "")
			} else if err := c.add(&f, value); err != nil {
				bad.at(i, err.Error())
			}
		}
		if empty.n > 0 {
			problems = append(problems, fmt.Sprintf("column %q has %d empty values (%s)", c.name, empty.n, empty.where()))
		}
		if bad.n > 0 {
			problems = append(problems, fmt.Sprintf("column %q has %d wrong values (%s)", c.name, bad.n, bad.where()))
		}
	}
	if problems != nil {
		return Flights{}, fmt.Errorf("%s; the columns are %s", strings.Join(problems, "; "), strings.Join(t.Columns, ", "))
	}
	return f, nil
}

// null recognises the ways in which programs write that there is no value. Upper and lower case matter: NAN is an airport.
func null(value string) bool {
	switch value {
	case "", "null", "NULL", "NA", "N/A", "n/a", "NaN", "nan", "None":
		return true
	}
	return false
}

// found counts rows and remembers the first few.
type found struct {
	n     int
	first []string
}

func (f *found) at(row int, what string) {
	f.n++
	if len(f.first) == 3 {
		return
	}
	place := fmt.Sprintf("row %d", row+1)
	if what != "" {
		place += ": " + what
	}
	f.first = append(f.first, place)
}

func (f *found) where() string {
	s := strings.Join(f.first, ", ")
	if f.n > len(f.first) {
		s += ", …"
	}
	return s
}
