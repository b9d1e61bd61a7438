# SPDX-License-Identifier: Apache-2.0
# gnuplot -e "data=...; out=...; heading=..." chart.gnuplot: one panel a job, one bar a target
set terminal svg size 1100,420 font 'sans-serif,11' background 'white'
set output out
set datafile separator '\t'
set style fill solid 0.85 noborder
set boxwidth 0.7
set xtics rotate by -45 left nomirror
set ytics format '%.0s%c' nomirror
set yrange [0:*]
set border 3
set grid ytics lc rgb '#dddddd'
unset key
set multiplot layout 1,3 title heading.': higher is better; ratios mean something, absolute figures do not'
ours(s) = strstrt(s, 'ublk-') == 1 || s eq 'nbd'
array heads[3] = ['randread 4k QD1, IOPS', 'randread 4k QD32, IOPS', 'read 1M QD4, MiB/s']
do for [c=1:3] {
    set title heads[c]
    plot data using 0:(column(c+1)):(ours(strcol(1)) ? 0x1f77b4 : 0xaaaaaa):xtic(1) every ::1 with boxes lc rgb variable
}
unset multiplot
