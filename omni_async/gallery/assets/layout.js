// Where each card stands: columns of one width, the next card always in the shortest one. So clips of all shapes stand
// side by side without holes. It is arithmetic only, since each card's height follows from its shape.

const SIZES = [170, 262, 400];

const shapeOf = (job) => {
  const shape = job.width && job.height ? job.width / job.height : job.ratio || 16 / 9;
  return Math.min(2.6, Math.max(0.4, shape));
};

// Of a job that came to nothing there is only its reason to read.
const ENDED = ["failed", "unknown", "cancelled", "undelivered", "overdue"];
const REASON = 118; // px: its state, and four lines

const pictureHeight = (job, wide) => {
  const isBare = !job.clips.length && (ENDED.includes(job.status) || job.status === "completed");
  return isBare ? REASON : Math.round(wide / shapeOf(job));
};

const columnsFor = (width, size, gap) => Math.max(1, Math.floor((width + gap) / (SIZES[size] + gap)));

const laidOut = (jobs, width, size, gap, caption) => {
  const columns = columnsFor(width, size, gap);
  const wide = Math.floor((width - gap * (columns - 1)) / columns);
  const ends = new Array(columns).fill(0);
  const places = jobs.map((job) => {
    let column = 0;
    for (let other = 1; other < columns; other += 1) if (ends[other] < ends[column] - 1) column = other;
    const media = pictureHeight(job, wide);
    const place = { job, column, x: column * (wide + gap), y: ends[column], width: wide, media, height: media + caption };
    ends[column] += place.height + gap;
    return place;
  });
  return { places, columns, height: Math.max(0, ...ends) - (jobs.length ? gap : 0) };
};

// Where an arrow leads: left and right in the order of the jobs, up and down to what stands there.
const neighbour = (places, at, key) => {
  if (key === "ArrowLeft") return Math.max(0, at - 1);
  if (key === "ArrowRight") return Math.min(places.length - 1, at + 1);
  if (key === "Home") return 0;
  if (key === "End") return places.length - 1;
  const from = places[at], down = key === "ArrowDown";
  let best = at, nearest = Infinity;
  places.forEach((place, index) => {
    if (place.column !== from.column) return;
    const distance = down ? place.y - from.y : from.y - place.y;
    if (distance > 0 && distance < nearest) [best, nearest] = [index, distance];
  });
  return best;
};
