"""What the grammar says of each family, as data: its rules are read as `grammar` tells."""

FAMILY_RULES: dict[str, tuple[str, ...]] = {
    # volcano
    "volcano noun": (
        "{state} volcano",
        "{state} volcano",
        "{state} volcano",
        "{state} volcano that towers over the land",
    ),
    "volcano state dormant": ("dormant", "sleeping", "quiet"),
    "volcano state erupting": ("erupting", "fiery", "erupting"),
    "volcano adjective": ("majestic", "mighty", "great", "towering", "tall"),
    "volcano place": (
        "in the center of a tranquil landscape",
        "above a lush forest",
        "over rolling hills",
        "in the center of the scene",
        "above the trees",
    ),
    "volcano act": ("rises", "stands", "towers", "dominates the scene"),
    "volcano detail": ("{volcanodetail}",),
    "volcanodetail dormant": (
        "with its rugged slopes contrasting the lush forest below",
        "surrounded by rolling hills and green forest",
        "its rugged slopes silent above the trees",
        "its crater quiet and cold",
    ),
    "volcanodetail erupting": (
        "with fiery lava and ash contrasting the lush forest below",
        "lava flows down its slopes and ash rises into the sky",
        "glowing lava and sparks burst from its crater",
        "a plume of dark smoke and ash rises above it",
        "spewing lava and ash",
    ),
    "volcano prompt dormant clear": (
        "A majestic dormant volcano rises in the center of a tranquil landscape, with its rugged slopes contrasting the "
        "lush forest below, set against clear skies and rolling hills, evoking a sense of solitude and timeless serenity.",
        "A majestic dormant volcano rises in the center of a tranquil landscape {time}, with its rugged slopes contrasting "
        "the lush forest below, set against clear skies and rolling hills.",
        "A {adjective} dormant volcano rises above a lush forest {time}, set against clear skies and rolling hills, "
        "evoking a sense of {feeling}.",
    ),
    "volcano prompt erupting storm": (
        "An erupting volcano dominates the scene, with fiery lava and ash contrasting the lush forest below, as dark "
        "clouds and lightning fill the sky, capturing the chaos and power of nature's fury.",
        "An erupting volcano dominates the scene {time}, with fiery lava and ash, as dark clouds and lightning fill the sky.",
        "Dark clouds and lightning fill the sky {time} as an erupting volcano spews fiery lava and ash, capturing the chaos "
        "and power of nature's fury.",
    ),
    # coast
    "coast noun": (
        "rocky coast",
        "rocky coastline",
        "rocky shore",
        "rocky coast from above",
        "rocky coastline seen from above",
    ),
    "coast adjective": ("breathtaking", "beautiful", "rugged", "wild", "picturesque"),
    "coast place": ("from above", "seen from the air", "by the deep blue sea", "at the edge of the sea"),
    "coast act": ("{coastact}",),
    "coastact calm": (
        "is washed by gentle waves",
        "meets the calm sea",
        "lies beside the calm blue water",
        "is touched by soft white foam",
    ),
    "coastact rough": (
        "is battered by rough waves",
        "is struck by crashing surf",
        "meets the rough sea",
        "is covered in white foam by big waves",
    ),
    "coast detail": (
        "a mosaic of small rocks and boulders",
        "with frothy white foam along the shore",
        "the deep blue water washing in and out over dark rocks",
        "the foam contrasting beautifully with the dark boulders",
        "with grass above the cliffs",
    ),
    "coast shotof": (
        "an aerial view of",
        "a breathtaking aerial view of",
        "a drone shot of",
        "a view from above of",
        "an aerial shot of",
    ),
    "coast prompt rough clear": (
        "A breathtaking aerial view of a rocky coastline. The coastline is a mosaic of small rocks and boulders. The deep "
        "blue water of the sea crashes against the shore, creating a frothy white foam that contrasts beautifully with the "
        "surrounding landscape.",
        "A breathtaking aerial view of a rocky coastline {time}. The deep blue water of the sea crashes against the shore, "
        "creating a frothy white foam.",
    ),
    "coast prompt calm clear": (
        "A breathtaking aerial view of a rocky coastline. The coastline is a mosaic of small rocks and boulders. The deep "
        "blue water of the sea washes gently against the shore {time}, creating a thin white foam that contrasts "
        "beautifully with the surrounding landscape.",
    ),
    # aquarium
    "aquarium noun": (
        "{fish} in an aquarium",
        "aquarium with {fish}",
        "aquarium with {fish}",
        "aquarium full of life, with {fish}",
    ),
    "fish": ("{fishcount}",),
    "fishcount one": ("one {colour} fish", "a {colour} fish", "a single {colour} fish"),
    "fishcount two": ("two {colour} fish", "a pair of {colour} fish"),
    "fishcount three": ("three {colour} fish",),
    "fishcount many": ("many {colour} fish", "a school of {colour} fish", "a group of {colour} fish"),
    "aquarium tag": (
        "{fish}",
        "{fish} in an aquarium",
        "aquarium, {fish}",
        "aquarium with {fish}",
        "{colour} fish",
        "{colour} fish {time}",
    ),
    "aquarium short": (
        "{fish} {swim} in an aquarium[ {time}]",
        "an aquarium with {fish}[ {time}]",
        "{fish} {swim} {direction}[ in an aquarium]",
        "{fish} {swim} {speed}[ {direction}] {underwater}",
        "fish swimming in an aquarium[ {time}]",
    ),
    "aquarium medium": (
        "{fish} {swim} {speed} {direction} in an aquarium, {detail}. [{timesentence}.]",
        "[{timesentence}.] {fish} {swim} {underwater}, {detail}. [{camera}.]",
        "an aquarium with {fish}. [{timesentence}.] {rising}. [{camera}.]",
    ),
    "aquarium long": (
        "{fish} {swim} {speed} {direction} {underwater}, {detail}. {rising}. [{timesentence}.] [{mood}.]",
        "a {adjective} aquarium with {fish} that {swim} {underwater}, {detail}, {evoking}. [{timesentence}.] [{camera}.]",
    ),
    "aquarium adjective": ("vibrant", "colourful", "beautiful", "peaceful", "glowing"),
    "swim": ("swim", "glide", "swim", "drift"),
    "underwater": (
        "through the clear water",
        "among swaying weeds",
        "above the sandy floor",
        "in the blue water",
        "between the plants",
    ),
    "aquarium detail": (
        "with weeds swaying gently in the water",
        "while bubbles rise to the surface",
        "shafts of light falling through the water",
        "with rocks resting on the sandy floor",
    ),
    "rising": (
        "bubbles rise to the surface",
        "green weeds sway in the water",
        "shafts of light fall from above",
        "the plants sway gently",
    ),
    "aquarium time day": ("in bright light", "by day", "lit from above", "in bright clear water"),
    "aquarium time night": ("at night", "in dim violet light", "in the dark", "in the dark water at night"),
    "aquarium timeclause day": (
        "the water is bright and blue",
        "bright light falls through the water",
        "the lights are on",
    ),
    "aquarium timeclause night": (
        "it is night in the aquarium",
        "the water is dark",
        "the lights are dim",
        "dim violet light fills the water",
    ),
    "aquarium prompt none none": (
        "A vibrant aquarium comes to life as {fish} glide gracefully through the clear water, with weeds swaying gently and "
        "bubbles rising to the surface, while shafts of light fall from above, evoking a sense of calm and wonder.",
        "A vibrant aquarium with {fish} swimming gracefully among swaying weeds {time}. Bubbles rise to the surface and "
        "rocks rest on the sandy floor.",
    ),
    # bear
    "bear noun": (
        "{colour} teddy bear",
        "{colour} teddy bear",
        "teddy bear with {colour} fur",
        "cute {colour} teddy bear",
    ),
    "bear adjective": ("cute", "little", "happy", "adorable", "fluffy"),
    "bear tag": (
        "{noun} in the sea",
        "{noun} in the ocean {time}",
        "{noun} in the water, {weather}",
        "{colour} teddy bear",
        "{noun} {time}, {waves}",
    ),
    "bear place": ("in the sea", "in the ocean", "among the waves", "in the middle of the ocean", "in the water"),
    "bear act": (
        "is swimming",
        "swims",
        "floats",
        "is floating",
        "bobs up and down",
        "swims {direction}",
        "drifts {speed} {direction}",
    ),
    "bear detail": ("{seadetail}", "its fluffy fur wet with water", "paddling with its paws"),
    "waves": ("{seanoun}",),
    "seanoun calm": ("calm sea", "gentle waves"),
    "seanoun rough": ("rough sea", "high waves"),
    "seadetail calm": (
        "the water calm around it",
        "rocked by gentle waves",
        "with small waves sparkling in the light",
        "on a calm sea",
    ),
    "seadetail rough": (
        "tossed by high waves",
        "with rough waves and white foam all around",
        "on a rough sea",
        "as big waves roll by",
    ),
    "bear prompt calm clear": (
        "A cute {colour} teddy bear floats in the middle of the ocean, bobbing gently among the waves, with its fluffy fur wet "
        "with water, set against clear skies and the deep blue sea, evoking a sense of solitude and wonder.",
        "A {colour} teddy bear is swimming in the ocean {time}, bobbing gently among the waves.",
        "a teddy bear is swimming in the ocean",
    ),
    "bear prompt rough storm": (
        "A cute {colour} teddy bear is tossed by high waves in the middle of the ocean, as dark clouds and lightning fill the "
        "sky, capturing the chaos and power of the sea.",
    ),
    # sailboat
    "sailboat noun": (
        "sailboat with {colour} sails",
        "{colour} sailboat",
        "boat with a {colour} sail",
        "sailing boat with {colour} sails",
    ),
    "sailboat adjective": ("lonely", "small", "elegant", "graceful", "little"),
    "sailboat place": ("on the sea", "on the open sea", "across the ocean", "on the water"),
    "sailboat act": (
        "sails",
        "is sailing",
        "glides",
        "sails {direction}",
        "sails {speed} {direction}",
        "moves {speed}",
    ),
    "sailboat detail": ("{seadetail}", "{seadetail}", "its {colour} sail full of wind"),
    "sailboat prompt calm clear": (
        "A {adjective} sailboat with {colour} sails glides across the deep blue sea {time}, with small waves sparkling in the "
        "light, set against clear skies, evoking a sense of solitude and timeless serenity.",
    ),
    "sailboat prompt rough storm": (
        "A {adjective} sailboat with {colour} sails fights its way across the rough sea, as dark clouds and lightning fill the "
        "sky, capturing the chaos and power of nature's fury.",
    ),
    # balloon
    "balloon noun": ("{balloons}",),
    "balloons": ("{ballooncount}",),
    "ballooncount one": ("{colour} hot air balloon", "{colour} hot-air balloon", "single {colour} balloon"),
    "ballooncount two": ("pair of {colour} hot air balloons", "pair of {colour} balloons"),
    "ballooncount three": ("group of three {colour} hot air balloons", "group of three {colour} balloons"),
    "balloon tag": ("{ballooncountplain}", "{ballooncountplain} {time}", "{ballooncountplain}, {weather}"),
    "ballooncountplain one": ("one {colour} balloon", "{colour} hot air balloon", "{colour} balloon"),
    "ballooncountplain two": ("two {colour} balloons", "two {colour} hot air balloons"),
    "ballooncountplain three": ("three {colour} balloons", "three {colour} hot air balloons"),
    "balloon adjective": ("colourful", "beautiful", "large", "graceful"),
    "balloon place": (
        "over rolling hills",
        "above the hills",
        "above a green landscape",
        "over hills and trees",
        "in the sky",
    ),
    "balloon act": ("floats", "drifts", "drifts {direction}", "floats {speed} {direction}", "hangs"),
    "balloon detail": (
        "with mountains in the distance",
        "above green meadows and trees",
        "striped and round",
        "with a basket below",
    ),
    # lake
    "lake noun": ("mountain lake", "mountain lake", "lake between mountains", "lake below snowy peaks"),
    "lake adjective": ("tranquil", "still", "beautiful", "quiet", "clear"),
    "lake place": (
        "below snow-capped mountains",
        "among the mountains",
        "at the foot of tall peaks",
        "beside a dark forest",
    ),
    "lake act": ("lies", "reflects the sky", "mirrors the mountains", "lies still", "shimmers"),
    "lake detail": (
        "with the peaks reflected in the water",
        "its ripples shimmering softly",
        "surrounded by conifers",
        "the mountains mirrored in the still water",
    ),
    "lake prompt none clear": (
        "A tranquil mountain lake lies in the center of the landscape {time}, with snow-capped peaks reflected in the still "
        "water, set against clear skies, evoking a sense of solitude and timeless serenity.",
    ),
    # campfire
    "campfire noun": ("{campfirenoun}",),
    "campfirenoun burning": ("campfire", "burning campfire", "campfire", "bright campfire"),
    "campfirenoun smouldering": ("smouldering campfire", "dying campfire", "campfire with glowing embers"),
    "campfire adjective": ("warm", "cosy", "small", "lonely"),
    "campfire place": ("in a forest", "in the woods", "among dark trees", "in a forest clearing", "under tall trees"),
    "campfire act": ("{campfireact}",),
    "campfireact burning": ("burns", "is burning", "flickers", "burns brightly", "crackles"),
    "campfireact smouldering": ("smoulders", "glows faintly", "slowly dies", "is going out"),
    "campfire detail": ("{campfiredetail}",),
    "campfiredetail burning": (
        "its flames lighting up the trees",
        "with sparks rising into the air",
        "with orange flames dancing",
        "casting a warm glow on the trees around",
    ),
    "campfiredetail smouldering": (
        "only embers glowing in the dark",
        "thin smoke rising into the air",
        "the trees dark around it",
    ),
    # lighthouse
    "lighthouse noun": (
        "lighthouse with {colour} stripes",
        "{colour} lighthouse",
        "{colour} striped lighthouse",
        "{colour} and white lighthouse",
    ),
    "lighthouse adjective": ("tall", "lonely", "old", "proud", "picturesque"),
    "lighthouse place": ("on a rock by the sea", "on a cliff", "above the sea", "on a rocky coast", "over the waves"),
    "lighthouse act": ("stands", "rises", "towers", "guards the coast", "shines its light"),
    "lighthouse detail": ("{lighthousedetail}", "its light turning over the water"),
    "lighthousedetail calm": ("with calm water below", "with gentle waves at its foot", "with a calm sea around it"),
    "lighthousedetail rough": (
        "with high waves crashing at its foot",
        "above a rough sea with white foam",
        "with rough waves below",
    ),
    # city
    "city noun": ("city", "city skyline", "city street", "big city"),
    "city adjective": ("modern", "busy", "sleepless", "bustling", "large"),
    "city place": ("with tall buildings", "with traffic on the road", "full of towers", "beside a busy road"),
    "city act": ("glitters", "never sleeps", "is full of life", "stretches to the horizon", "hums with traffic"),
    "city detail": (
        "cars moving {direction}",
        "traffic moving {speed} {direction}",
        "with traffic lights and passing cars",
        "its windows lit one by one",
        "with skyscrapers against the sky",
    ),
    # waterfall
    "waterfall noun": ("waterfall", "waterfall", "tall waterfall", "waterfall in the mountains"),
    "waterfall adjective": ("mighty", "majestic", "beautiful", "roaring", "hidden"),
    "waterfall place": (
        "between dark rocks",
        "over a rocky cliff",
        "in a green valley",
        "into a pool",
        "in the forest",
    ),
    "waterfall act": ("falls", "pours down", "plunges", "tumbles", "flows", "cascades"),
    "waterfall detail": (
        "with white mist rising from the pool",
        "surrounded by lush green forest",
        "the white water contrasting the dark rocks",
        "with foam and ripples spreading below",
    ),
    # aurora
    "aurora noun": (
        "{colour} aurora",
        "sky of {colour} northern lights",
        "curtain of {colour} northern lights",
        "{colour} polar light",
    ),
    "aurora tag": (
        "{colour} northern lights",
        "{colour} aurora",
        "{colour} aurora {time}",
        "{colour} northern lights, {weather}",
        "northern lights over snow",
    ),
    "aurora short": (
        "{colour} northern lights over {snowland}[ {time}]",
        "a {colour} aurora {act} over {snowland}[ {time}]",
        "{colour} northern lights dance[ {speed}] over {snowland}[, {weather}]",
    ),
    "aurora adjective": ("magical", "glowing", "beautiful", "bright", "shimmering"),
    "snowland": ("snow-covered hills", "snowy hills", "a snowy landscape", "the snow", "hills of snow"),
    "aurora place": ("over {snowland}", "above {snowland}", "in the sky above {snowland}"),
    "aurora act": ("dances", "glows", "waves {speed}", "shimmers", "moves {speed}"),
    "aurora detail": (
        "with curtains of {colour} light",
        "the snow glowing {colour} below",
        "over dark conifers and white snow",
        "among the stars",
    ),
}
